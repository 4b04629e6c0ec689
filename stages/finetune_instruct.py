"""Tune to follow instructions. in: models/base, data/instructions | params: seed, instruct, compute
out: models/instruct (merged, with the adapter beside where LoRA trains), metrics, plots."""

from pathlib import Path

from llmcore import tracking
from llmcore.compute import set_up
from llmcore.errors import UserError
from llmcore.files import read_jsonl, write_json
from llmcore.model.adapter import save_adapter
from llmcore.model.folder import WEIGHTS_FILE, load_gpt, save_gpt
from llmcore.model.gpt import GPT, parameter_counts
from llmcore.model.lora import apply_lora, merged_state, train_only_lora
from llmcore.params import Instruct, read_params
from llmcore.report.card import model_card
from llmcore.seeds import torch_generator
from llmcore.tasks.instructions import Example, InstructionTask, make_example
from llmcore.tokenizer.bpe import Tokenizer, load_tokenizer
from llmcore.train.loop import fit, total_steps
from stages.common import Watch, check_length, data_lines, inputs_of, report_model, run, write_history

SECTIONS = ["seed", "instruct", "compute"]


def main(argv: list[str]) -> None:
    base, data, out, metrics_file, plots = map(Path, argv)
    params = read_params()
    section = params.instruct
    machine = set_up(params.compute)
    tokenizer = load_tokenizer(base)
    with tracking.run("finetune_instruct", params, SECTIONS) as tracker:
        inputs = inputs_of(tracker, base=base, instructions=data)
        model = load_gpt(base)
        check_length("instruct.max_tokens", section.max_tokens, model.config.context_length)
        choose_trained(model, section, params.seed)
        model.to(machine.device)
        train = read_examples(data / "train.jsonl", tokenizer, section)
        task = InstructionTask(
            train,
            read_examples(data / "val.jsonl", tokenizer, section),
            batch_size=section.batch_size,
            micro_batch_size=section.micro_batch_size,
            seed=params.seed,
            pad_id=tokenizer.end_of_text,
            device=machine.device,
        )
        steps = total_steps(task, section.epochs)
        watch = Watch("finetune_instruct", steps, tracker, progress=params.runtime.progress)
        fitted = fit(model, task, section, seed=params.seed, machine=machine, observer=watch)
        watch.close()

        supervised = sum(example.supervised for example in train)
        metrics = {
            **parameter_counts(model),
            "steps": fitted.steps,
            "train_rows": len(train),
            "truncated_rows": sum(example.truncated for example in train),
            "supervised_share": supervised / sum(len(example.targets) for example in train),
            "train_loss": watch.history.mean_loss(task.steps_per_epoch),
            **{f"val_{name}": value for name, value in fitted.metrics.items()},
        }
        origin = {"params": params.model_dump(include=set(SECTIONS)), "inputs": inputs}
        card = model_card("instruct", params=section.model_dump(), metrics=metrics, data=data_lines(inputs))
        save_gpt(out, model.config, merged_state(model), tokenizer=tokenizer, origin=origin, card=card)
        if section.trains == "lora":
            save_adapter(out / "adapter", model, base=base, alpha=section.lora.alpha, dropout=section.lora.dropout)
        write_json(metrics_file, metrics)
        write_history(plots, watch.history)
        report_model(tracker, metrics, plots, out / WEIGHTS_FILE)


def choose_trained(model: GPT, section: Instruct, seed: int) -> None:
    """Train all parameters, or low-rank updates of some layers."""
    if section.trains == "lora":
        apply_lora(model, **section.lora.model_dump(), generator=torch_generator(seed, "lora"))
        train_only_lora(model)


def read_examples(path: Path, tokenizer: Tokenizer, section: Instruct) -> list[Example]:
    """Return the rows as examples; one that is cut before its answer teaches nothing and is left out."""
    examples = [
        make_example(
            row,
            tokenizer.encode,
            end_of_text=tokenizer.end_of_text,
            mask=section.mask,
            max_tokens=section.max_tokens,
        )
        for row in read_jsonl(path)
    ]
    kept = [example for example in examples if example.supervised]
    if not kept:
        rule = f"must leave part of an answer in at least one row of {path}, got {section.max_tokens}"
        raise UserError(f"instruct.max_tokens {rule}; raise it")
    return kept


if __name__ == "__main__":
    run(main)
