"""Classification: name the class of a text, read at one of its tokens. Book: chapter 6."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llmcore.data.order import Order, chunks
from llmcore.model.classifier import GPTClassifier
from llmcore.tasks.shown import MASKED, PADDING, SUPERVISED, Piece, ShownRow

if TYPE_CHECKING:
    from llmcore.params import Classifier
    from llmcore.tokenizer.bpe import Tokenizer

Encode = Callable[[Iterable[str]], Iterable[list[int]]]


@dataclass(frozen=True)
class Labelled:
    """One text as ids, and the index of its class."""

    ids: list[int]
    label: int
    below: Tensor | None = None  # (T, C), what the frozen blocks make of it, where that is remembered


@dataclass(frozen=True)
class LabelledBatch:
    """Padded ids (B, T), the position to read (B,), the classes (B,), what the frozen blocks make of it (B, T, C)."""

    ids: Tensor
    read: Tensor
    labels: Tensor
    supervised: int
    below: Tensor | None = None


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
        logits = model(batch.ids, batch.read, batch.below).float()  # (B, labels)
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
            logits = model(batch.ids, batch.read, batch.below).float()  # (B, labels)
            total += F.cross_entropy(logits, batch.labels, reduction="sum").item()
            right += int((logits.argmax(-1) == batch.labels).sum())
        return {"loss": total / len(self.val), "accuracy": right / len(self.val)}

    def _batches(self, rows: Sequence[Labelled]) -> list[LabelledBatch]:
        return [self._batch(part) for part in chunks(rows, self.micro_batch_size)]

    def _batch(self, rows: Sequence[Labelled]) -> LabelledBatch:
        ids, read = pad([row.ids for row in rows], self.pad_id, self.pad_to)
        labels = torch.tensor([row.label for row in rows])
        known = [row.below for row in rows if row.below is not None]
        below = pad_sequence(known, batch_first=True).to(self.device) if len(known) == len(rows) else None
        return LabelledBatch(ids.to(self.device), read.to(self.device), labels.to(self.device), len(rows), below)

    @torch.no_grad()
    def remember(self, model: GPTClassifier) -> None:
        """Compute once what the frozen blocks make of each row, so that no step does it again.

        Right where they drop nothing out. It is done for all rows before the first step, in one order, so that a
        resumed training has the same bytes.
        """
        model.eval()
        self.train, self.val = self._with_below(model, self.train), self._with_below(model, self.val)

    def _with_below(self, model: GPTClassifier, rows: Sequence[Labelled]) -> list[Labelled]:
        known = list(rows)
        by_length = sorted(range(len(rows)), key=lambda row: len(rows[row].ids))
        for chosen in chunks(by_length, self.micro_batch_size):
            batch = self._batch([rows[row] for row in chosen])
            for row, below in zip(chosen, model.blocks_below(batch.ids), strict=True):
                kept = self.pad_to or len(rows[row].ids)  # padding behind the token that is read changes nothing
                known[row] = replace(rows[row], below=below[:kept].clone())
        return known


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


def classification_task(
    section: "Classifier",
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    labels: Sequence[str],
    tokenizer: "Tokenizer",
    *,
    seed: int,
    device: torch.device,
) -> tuple[ClassificationTask, dict[str, list[int]]]:
    """Return the task of the rows in `train` and `val`, and how many tokens each row had before it was cut."""
    parts, lengths = {}, {}
    for split in ("train", "val"):
        parts[split], lengths[split] = label_rows(
            rows[split], tokenizer.encode_stream, labels, section.max_tokens, tokenizer.end_of_text
        )
    weights = balanced_weights(parts["train"], len(labels)) if section.class_weights == "balanced" else None
    task = ClassificationTask(
        parts["train"],
        parts["val"],
        batch_size=section.batch_size,
        micro_batch_size=section.micro_batch_size,
        seed=seed,
        pad_id=tokenizer.end_of_text,
        pad_to=section.max_tokens if section.pooling == "last_position" else None,
        class_weights=weights,
        device=device,
    )
    return task, lengths


def classification_rows(
    task: ClassificationTask, step: int, decode: Callable[[list[int]], str], labels: Sequence[str]
) -> list[ShownRow]:
    """Return the rows of a step's batch; supervised is the one token at which the class is read."""
    rows = [task.train[number] for number in task.order.batch(step)]
    ids, read = pad([row.ids for row in rows], task.pad_id, task.pad_to)
    shown = []
    for row, tokens, position in zip(rows, ids.tolist(), read.tolist(), strict=True):
        kinds = [MASKED] * len(row.ids) + [PADDING] * (len(tokens) - len(row.ids))
        kinds[position] = SUPERVISED
        texts = [decode([token]) if kind != PADDING else "" for token, kind in zip(tokens, kinds, strict=True)]
        shown.append(ShownRow(labels[row.label], [Piece(*piece) for piece in zip(texts, kinds, strict=True)]))
    return shown
