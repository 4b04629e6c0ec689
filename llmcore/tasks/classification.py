"""Classification: name the class of a text, read at one of its tokens. Book: chapter 6."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llmcore.data.order import Order, chunks
from llmcore.model.classifier import GPTClassifier

Encode = Callable[[Iterable[str]], Iterable[list[int]]]


@dataclass(frozen=True)
class Labelled:
    """One text as ids, and the index of its class."""

    ids: list[int]
    label: int


@dataclass(frozen=True)
class LabelledBatch:
    """Padded ids (B, T), the position to read (B,), the classes (B,)."""

    ids: Tensor
    read: Tensor
    labels: Tensor
    supervised: int


def label_rows(
    rows: Sequence[Mapping[str, Any]], encode_stream: Encode, labels: Sequence[str], max_tokens: int, empty: int
) -> tuple[list[Labelled], list[int]]:
    """Return the rows as ids, cut to `max_tokens`, and their lengths before; a row without ids is `empty` alone."""
    index = {label: number for number, label in enumerate(labels)}
    encoded = [ids or [empty] for ids in encode_stream(row["text"] for row in rows)]
    labelled = [Labelled(ids[:max_tokens], index[row["label"]]) for ids, row in zip(encoded, rows, strict=True)]
    return labelled, [len(ids) for ids in encoded]


def balanced_weights(rows: Sequence[Labelled], classes: int) -> list[float]:
    """Return a weight for each class with which all classes count alike; its mean over the rows is 1."""
    counts = Counter(row.label for row in rows)
    return [len(rows) / (classes * counts[label]) for label in range(classes)]


class ClassificationTask:
    """Train on labelled rows of similar length together; validate by loss and accuracy."""

    def __init__(
        self,
        train: Sequence[Labelled],
        val: Sequence[Labelled],
        *,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        pad_id: int,
        pad_to: int | None,
        class_weights: Sequence[float] | None = None,
        device: torch.device,
    ):
        self.class_weights = None if class_weights is None else torch.tensor(class_weights, device=device)
        self.train, self.val, self.pad_id, self.pad_to, self.device = train, val, pad_id, pad_to, device
        self.micro_batch_size = micro_batch_size
        self.order = Order(len(train), batch_size, seed, np.array([len(row.ids) for row in train]))
        self.steps_per_epoch = self.order.steps_per_epoch

    def micro_batches(self, step: int) -> list[LabelledBatch]:
        return self._batches([self.train[row] for row in self.order.batch(step)])

    def loss_sum(self, model: GPTClassifier, batch: LabelledBatch) -> Tensor:
        logits = model(batch.ids, batch.read).float()  # (B, labels)
        return F.cross_entropy(logits, batch.labels, weight=self.class_weights, reduction="sum")

    def padding_share(self) -> float:
        """Return the share of the first epoch's tokens that are padding."""
        if self.pad_to:
            return 1 - sum(len(row.ids) for row in self.train) / (len(self.train) * self.pad_to)
        return self.order.padding_share(self.micro_batch_size)

    def evaluate(self, model: GPTClassifier) -> dict[str, float]:
        """Return mean loss and accuracy over the validation rows, each counted alike."""
        total, right = 0.0, 0
        for batch in self._batches(sorted(self.val, key=lambda row: len(row.ids))):
            logits = model(batch.ids, batch.read).float()  # (B, labels)
            total += F.cross_entropy(logits, batch.labels, reduction="sum").item()
            right += int((logits.argmax(-1) == batch.labels).sum())
        return {"loss": total / len(self.val), "accuracy": right / len(self.val)}

    def _batches(self, rows: Sequence[Labelled]) -> list[LabelledBatch]:
        return [self._batch(part) for part in chunks(rows, self.micro_batch_size)]

    def _batch(self, rows: Sequence[Labelled]) -> LabelledBatch:
        ids, read = pad([row.ids for row in rows], self.pad_id, self.pad_to)
        labels = torch.tensor([row.label for row in rows])
        return LabelledBatch(ids.to(self.device), read.to(self.device), labels.to(self.device), len(rows))


def pad(rows: Sequence[Sequence[int]], pad_id: int, pad_to: int | None) -> tuple[Tensor, Tensor]:
    """Pad on the right and say which position is read: ids (B, T), positions (B,).

    Without `pad_to`, rows are padded to the longest of them and read at their last real token. With it
    (the book's way) all have that length and are read at the last position, padding or not.
    """
    width = pad_to or max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id)  # (B, T)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    read = torch.tensor([width - 1 if pad_to else len(row) - 1 for row in rows])
    return ids, read


@torch.no_grad()
def class_probabilities(
    model: GPTClassifier, rows: Sequence[Sequence[int]], *, batch_size: int, pad_id: int, pad_to: int | None
) -> Tensor:
    """Return the probability of each class for each row, in the rows' order: (rows, labels)."""
    device = model.score.weight.device
    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    probabilities = torch.empty(len(rows), len(model.labels))
    for chosen in chunks(by_length, batch_size):
        ids, read = pad([rows[row] for row in chosen], pad_id, pad_to)
        probabilities[chosen] = model(ids.to(device), read.to(device)).float().softmax(-1).cpu()
    return probabilities
