"""Tune to follow instructions. in: models/base, data/instructions | params: seed, instruct, compute
out: models/instruct (merged, with the adapter beside where LoRA trains), metrics, plots."""

from contextlib import nullcontext
from pathlib import Path

from llmcore.base.files import read_jsonl, write_json
from llmcore.base.seeds import torch_generator
from llmcore.config.params import Instruct, read_params
from llmcore.generate.open import open_gpt
from llmcore.model.adapter import save_adapter
from llmcore.model.folder import load_gpt, save_gpt
from llmcore.model.gpt2 import GPT, parameter_counts
from llmcore.model.lora import apply_lora, frozen_in_bf16, merged_state, train_only_lora
from llmcore.report.figures import batch_rows, length_histogram
from llmcore.run.training import check_length, papers, track_model, train, training, write_history
from llmcore.tasks.instructions import Example, InstructionTask, instruction_rows, instruction_task, usable
from llmcore.tokenizer.prompt import PROMPT_KEY
from llmcore.train.compute import set_up

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
        parts = {split: list(read_jsonl(data / f"{split}.jsonl")) for split in ("train", "val")}
        task, examples = instruction_task(section, parts, tokenizer, seed=params.seed, device=machine.device)
        with frozen_in_bf16(model, lambda: load_gpt(base).state_dict()) if machine.is_bf16 else nullcontext():
            last, history = train(work, model, task, section, machine=machine)
        metrics = parameter_counts(model) | counts(task, examples["train"], section) | last
        made = papers(work, "instruct", "base", "instructions", params=section.model_dump(), metrics=metrics)
        form = {PROMPT_KEY: section.prompt}
        save_gpt(out, model.config, merged_state(model), tokenizer=tokenizer, values=form, **made)
        if section.trains == "lora":
            values = section.lora.model_dump(include={"alpha", "scaling", "dropout"})
            save_adapter(out / "adapter", model, base=base, **values)
        write_json(metrics_file, metrics)
        write_history(plots, history)
        lengths = {split: [example.length for example in rows] for split, rows in examples.items()}
        batch_rows(plots / "batch.png", instruction_rows(task, 0, tokenizer.decode), title="First batch")
        length_histogram(plots / "lengths.png", lengths, limit=section.max_tokens)
        track_model(work.tracker, metrics, plots, out)


def choose_trained(model: GPT, section: Instruct, seed: int) -> None:
    """Train all parameters, or low-rank updates of some layers."""
    if section.trains == "lora":
        apply_lora(model, **section.lora.model_dump(), generator=torch_generator(seed, "lora"))
        train_only_lora(model)


def counts(task: InstructionTask, examples: list[Example], section: Instruct) -> dict[str, float]:
    """Return what became of the training rows, and the shares of tokens that are padding and that are learned."""
    kept = usable(examples, section.overlong)
    cut = sum(example.truncated for example in examples)
    return {
        "train_rows": len(kept),
        "truncated_rows": sum(example.truncated for example in kept),
        "truncated_share": cut / len(examples),
        "dropped_rows": len(examples) - len(kept),
        "packed_rows": len(task.train),
        "padding_share": task.order.padding_share(section.micro_batch_size),
        "supervised_share": sum(e.supervised for e in kept) / sum(len(e.targets) for e in kept),
    }
