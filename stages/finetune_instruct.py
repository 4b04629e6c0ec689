"""Tune to follow instructions. in: models/base, data/instructions | params: seed, instruct, compute
out: models/instruct (merged, with the adapter beside where LoRA trains), metrics, plots."""

from pathlib import Path

from llmcore.compute import set_up
from llmcore.errors import UserError
from llmcore.files import read_jsonl, write_json
from llmcore.model.adapter import save_adapter
from llmcore.model.folder import save_gpt
from llmcore.model.gpt import GPT, parameter_counts
from llmcore.model.lora import apply_lora, merged_state, train_only_lora
from llmcore.origin import read_source
from llmcore.params import Instruct, read_params
from llmcore.report.card import model_card
from llmcore.seeds import torch_generator
from llmcore.serve.open import open_gpt
from llmcore.tasks.instructions import Example, InstructionTask, make_example
from llmcore.tokenizer.bpe import Tokenizer
from stages.common import run
from stages.inputs import card_lines
from stages.training import check_length, track_model, train, training, write_history

SECTIONS = ["seed", "instruct", "compute"]


def main(argv: list[str]) -> None:
    base, data, out, metrics_file, plots = map(Path, argv)
    params = read_params()
    section = params.instruct
    machine = set_up(params.compute)
    with training("finetune_instruct", params, SECTIONS, base=base, instructions=data) as work:
        model, tokenizer = open_gpt(base, dropout=section.dropout)
        check_length("instruct.max_tokens", section.max_tokens, model.config.context_length)
        choose_trained(model, section, params.seed)
        model.to(machine.device)
        examples = read_examples(data / "train.jsonl", tokenizer, section)
        kept = answered(examples, f"{data}/train.jsonl")
        task = InstructionTask(
            kept,
            answered(read_examples(data / "val.jsonl", tokenizer, section), f"{data}/val.jsonl"),
            batch_size=section.batch_size,
            micro_batch_size=section.micro_batch_size,
            seed=params.seed,
            pad_id=tokenizer.end_of_text,
            device=machine.device,
        )
        last, history = train(work, model, task, section, machine=machine)
        rows = {
            "train_rows": len(kept),
            "truncated_rows": sum(example.truncated for example in examples),
            "dropped_rows": len(examples) - len(kept),
            "supervised_share": sum(e.supervised for e in kept) / sum(len(e.targets) for e in kept),
        }
        metrics = parameter_counts(model) | rows | last
        source = read_source(base)
        origin = {"params": params.model_dump(include=set(SECTIONS)), "inputs": work.inputs, "source": source._asdict()}
        card = model_card(
            "instruct",
            params=section.model_dump(),
            metrics=metrics,
            licence=source.licence,
            data=card_lines(work.inputs, base=base, instructions=data),
        )
        save_gpt(out, model.config, merged_state(model), tokenizer=tokenizer, origin=origin, card=card)
        if section.trains == "lora":
            save_adapter(
                out / "adapter",
                model,
                base=base,
                alpha=section.lora.alpha,
                scaling=section.lora.scaling,
                dropout=section.lora.dropout,
            )
        write_json(metrics_file, metrics)
        write_history(plots, history)
        track_model(work.tracker, metrics, plots, out)


def choose_trained(model: GPT, section: Instruct, seed: int) -> None:
    """Train all parameters, or low-rank updates of some layers."""
    if section.trains == "lora":
        apply_lora(model, **section.lora.model_dump(), generator=torch_generator(seed, "lora"))
        train_only_lora(model)


def read_examples(path: Path, tokenizer: Tokenizer, section: Instruct) -> list[Example]:
    """Return the rows as examples, cut to `max_tokens`."""
    return [
        make_example(
            row,
            tokenizer.encode,
            end_of_text=tokenizer.end_of_text,
            mask=section.mask,
            max_tokens=section.max_tokens,
        )
        for row in read_jsonl(path)
    ]


def answered(examples: list[Example], source: str) -> list[Example]:
    """Return the examples with something to learn: one that is cut before its answer has nothing."""
    kept = [example for example in examples if example.supervised]
    if not kept:
        longest = max(len(example.inputs) for example in examples)
        rule = f"must leave part of an answer in at least one row of {source}, got {longest}"
        raise UserError(f"instruct.max_tokens {rule}; raise it")
    return kept


if __name__ == "__main__":
    run(main)
