"""A training batch as `llmcore show-batch` shows it, without a model."""

from pathlib import Path

import torch

from llmcore.base.files import read_json, read_jsonl
from llmcore.config.read import read_params
from llmcore.tasks import classification, instructions
from llmcore.tasks.batch_view import RowView
from llmcore.tokenizer.load import load_tokenizer

DATA = {"classifier": "data/spam", "instruct": "data/instructions"}


def batch_views(task_name: str, base: str | Path, data: str | Path | None, *, step: int) -> list[RowView]:
    """Return the rows of a step's batch of the task `classifier` or `instruct`, with the tokenizer of `base`."""
    params = read_params()
    tokenizer = load_tokenizer(base)
    folder = Path(data or DATA[task_name])
    rows = {split: list(read_jsonl(folder / f"{split}.jsonl")) for split in ("train", "val")}
    cpu = torch.device("cpu")
    if task_name == "classifier":
        labels = read_json(folder / "meta.json")["labels"]
        labelled, _ = classification.classification_task(
            params.classifier, rows, labels, tokenizer, seed=params.seed, device=cpu
        )
        return classification.view_batch(labelled, step, tokenizer.decode, labels)
    task, _ = instructions.instruction_task(params.instruct, rows, tokenizer, seed=params.seed, device=cpu)
    return instructions.view_batch(task, step, tokenizer.decode)
