"""Tune to follow instructions. in: models/base, data/instructions | params: seed, instruct, compute
out: models/instruct (merged, with the adapter beside where LoRA trains), metrics, plots."""

from pathlib import Path

from llmcore import tracking
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
from llmcore.report.figures import length_histogram
from llmcore.seeds import torch_generator
from llmcore.serve.open import open_gpt
from llmcore.tasks.instructions import Example, InstructionTask, make_examples, pack, usable
from llmcore.tasks.prompt import PROMPT_KEY
from llmcore.tokenizer.bpe import Tokenizer
from stages.common import run
from stages.training import card_lines, check_length, inputs_of, track_model, train, write_history

SECTIONS = ["seed", "instruct", "compute"]


def main(argv: list[str]) -> None:
    base, data, out, metrics_file, plots = map(Path, argv)
    params = read_params()
    section = params.instruct
    machine = set_up(params.compute)
    with tracking.run("finetune_instruct", params, SECTIONS) as tracker:
        inputs = inputs_of(tracker, base=base, instructions=data)
        model, tokenizer = open_gpt(base, dropout=section.dropout)
        check_length("instruct.max_tokens", section.max_tokens, model.config.context_length)
        choose_trained(model, section, params.seed)
        model.to(machine.device)
        examples, kept = read_examples(data / "train.jsonl", tokenizer, section)
        val_examples, val = read_examples(data / "val.jsonl", tokenizer, section)
        packed = pack(kept, section.max_tokens, params.seed) if section.packing else kept
        task = InstructionTask(
            packed,
            val,
            batch_size=section.batch_size,
            micro_batch_size=section.micro_batch_size,
            seed=params.seed,
            pad_id=tokenizer.end_of_text,
            device=machine.device,
        )
        last, history = train("finetune_instruct", model, task, section, params, machine=machine, tracker=tracker)
        cut = sum(example.truncated for example in examples)
        rows = {
            "train_rows": len(kept),
            "truncated_rows": cut if section.overlong == "truncate" else 0,
            "truncated_share": cut / len(examples),
            "dropped_rows": len(examples) - len(kept),
            "packed_rows": len(packed),
            "padding_share": task.order.padding_share(section.micro_batch_size),
            "supervised_share": sum(e.supervised for e in kept) / sum(len(e.targets) for e in kept),
        }
        metrics = parameter_counts(model) | rows | last
        source = read_source(base)
        origin = {"params": params.model_dump(include=set(SECTIONS)), "inputs": inputs, "source": source._asdict()}
        card = model_card(
            "instruct",
            params=section.model_dump(),
            metrics=metrics,
            licence=source.licence,
            data=card_lines(inputs, base=base, instructions=data),
        )
        save_gpt(
            out,
            model.config,
            merged_state(model),
            tokenizer=tokenizer,
            origin=origin,
            card=card,
            values={PROMPT_KEY: section.prompt},
        )
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
        lengths = {"train": [e.length for e in examples], "val": [e.length for e in val_examples]}
        length_histogram(plots / "lengths.png", lengths, limit=section.max_tokens)
        track_model(tracker, metrics, plots, out)


def choose_trained(model: GPT, section: Instruct, seed: int) -> None:
    """Train all parameters, or low-rank updates of some layers."""
    if section.trains == "lora":
        apply_lora(model, **section.lora.model_dump(), generator=torch_generator(seed, "lora"))
        train_only_lora(model)


def read_examples(path: Path, tokenizer: Tokenizer, section: Instruct) -> tuple[list[Example], list[Example]]:
    """Return all rows as examples, cut to `max_tokens`, and those of them that are learned from."""
    examples = make_examples(
        read_jsonl(path),
        tokenizer.encode,
        end_of_text=tokenizer.end_of_text,
        form=section.prompt,
        mask=section.mask,
        max_tokens=section.max_tokens,
    )
    kept = usable(examples, section.overlong)
    if not kept:
        longest = max(example.length for example in examples)
        rule = f"must have room for an answer in at least one row of {path}, got {section.max_tokens}"
        raise UserError(f"instruct.max_tokens {rule}; raise it (the longest row has {longest})")
    return examples, kept


if __name__ == "__main__":
    run(main)
