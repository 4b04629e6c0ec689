"""Classification: predict the class of a text, read at one of its tokens. Book: chapter 6."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llmcore.base import parallel
from llmcore.base.containers import chunks
from llmcore.base.transfer import to_device
from llmcore.model.classifier import SequenceClassifier, pad_rows
from llmcore.tasks.batch_view import MASKED, PADDING, TARGET, Piece, RowView
from llmcore.tasks.loader import Loader

if TYPE_CHECKING:
    from llmcore.config.params import ClassifierParams
    from llmcore.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class LabelledText:
    """One text as ids, and the index of its class."""

    ids: list[int]
    label: int
    prefix: Tensor | None = None  # (T, C), the output of the frozen blocks where it is cached


@dataclass(frozen=True)
class LabelledBatch:
    """Padded ids (B, T), the position to read (B,), the classes (B,), the cached output of frozen blocks (B, T, C)."""

    ids: Tensor
    read: Tensor
    labels: Tensor
    n_tokens: int  # ids without padding
    n_targets: int
    prefix: Tensor | None = None


def encode_labelled(
    rows: Sequence[Mapping[str, Any]], tokenizer: "Tokenizer", labels: Sequence[str], max_tokens: int
) -> tuple[list[LabelledText], list[int]]:
    """Return the rows as ids, cut to `max_tokens`, and their lengths before; a row without ids is end-of-text alone."""
    index = {label: number for number, label in enumerate(labels)}
    texts = tokenizer.encode_stream(row["text"] for row in rows)
    encoded = [[*tokenizer.text_start, *ids] or [tokenizer.end_of_text] for ids in texts]
    labelled = [LabelledText(ids[:max_tokens], index[row["label"]]) for ids, row in zip(encoded, rows, strict=True)]
    return labelled, [len(ids) for ids in encoded]


def balanced_weights(rows: Sequence[LabelledText], n_classes: int) -> list[float]:
    """Return the weight of each class with which all classes count alike; its mean over the rows is 1."""
    counts = Counter(row.label for row in rows)
    return [len(rows) / (n_classes * counts[label]) for label in range(n_classes)]


class ClassificationTask:
    """Train on labelled rows of similar length together; validate by loss and accuracy."""

    def __init__(
        self,
        train: Sequence[LabelledText],
        val: Sequence[LabelledText],
        *,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        pad_id: int,
        pad_to: int | None,
        class_weights: Sequence[float] | None = None,
        device: torch.device,
    ):
        self.train = train
        self.val = val
        self.pad_id = pad_id
        self.pad_to = pad_to
        self.device = device
        self.class_weights = None if class_weights is None else torch.tensor(class_weights, device=device)
        self.loader = Loader(
            [len(row.ids) for row in train],
            lambda rows: self._collate([self.train[row] for row in rows]),
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            seed=seed,
        )

    def loss_sum(self, model: SequenceClassifier, batch: LabelledBatch) -> Tensor:
        logits = model(batch.ids, batch.read, batch.prefix).float()  # (B, labels)
        return F.cross_entropy(logits, batch.labels, weight=self.class_weights, reduction="sum")

    def padding_share(self) -> float:
        """Return the share of the first epoch's tokens that are padding."""
        if self.pad_to:
            return 1 - sum(len(row.ids) for row in self.train) / (len(self.train) * self.pad_to)
        return self.loader.padding_share

    def evaluate(self, model: SequenceClassifier) -> dict[str, float]:
        """Return mean loss and accuracy over the validation rows, each counted alike."""

        def scored(rows: Sequence[LabelledText]) -> tuple[float, int]:
            batch = self._collate(rows)
            logits = model(batch.ids, batch.read, batch.prefix).float()  # (B, labels)
            loss = F.cross_entropy(logits, batch.labels, reduction="sum").item()
            return loss, int((logits.argmax(-1) == batch.labels).sum())

        parts = chunks(sorted(self.val, key=lambda row: len(row.ids)), self.loader.micro_batch_size)
        losses, correct = zip(*parallel.map_parts(scored, parts, equally=True), strict=True)
        return {"loss": sum(losses) / len(self.val), "accuracy": sum(correct) / len(self.val)}

    def _collate(self, rows: Sequence[LabelledText]) -> LabelledBatch:
        ids, read = pad_rows([row.ids for row in rows], self.pad_id, self.pad_to)
        labels = torch.tensor([row.label for row in rows])
        cached = [row.prefix for row in rows if row.prefix is not None]
        is_cached = len(cached) == len(rows)
        prefix = to_device(pad_sequence(cached, batch_first=True), self.device) if is_cached else None
        n_tokens = sum(len(row.ids) for row in rows)
        return LabelledBatch(
            to_device(ids, self.device),
            to_device(read, self.device),
            to_device(labels, self.device),
            n_tokens=n_tokens,
            n_targets=len(rows),
            prefix=prefix,
        )

    @torch.no_grad()
    def cache_frozen_prefix(self, model: SequenceClassifier) -> None:
        """Compute the output of the frozen blocks once per row, so that no step computes it again.

        Exact only without dropout in these blocks. All rows are computed before the first step, in one order, so
        that a resumed training has the same bytes.
        """
        model.eval()
        self.train = self._with_prefix(model, self.train)
        self.val = self._with_prefix(model, self.val)

    def _with_prefix(self, model: SequenceClassifier, rows: Sequence[LabelledText]) -> list[LabelledText]:
        cached = list(rows)
        by_length = sorted(range(len(rows)), key=lambda row: len(rows[row].ids))
        for chosen in chunks(by_length, self.loader.micro_batch_size):
            batch = self._collate([rows[row] for row in chosen])
            for row, prefix in zip(chosen, model.frozen_prefix(batch.ids), strict=True):
                kept = self.pad_to or len(rows[row].ids)  # padding after the token that is read changes nothing
                cached[row] = replace(rows[row], prefix=prefix[:kept].to("cpu", copy=True))  # a GPU may not hold all
        return cached


def classification_task(
    params: "ClassifierParams",
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    labels: Sequence[str],
    tokenizer: "Tokenizer",
    *,
    seed: int,
    device: torch.device,
) -> tuple[ClassificationTask, dict[str, list[int]]]:
    """Return the task of the rows in `train` and `val`, and the length of each row in tokens before it was cut."""
    encoded = {split: encode_labelled(rows[split], tokenizer, labels, params.max_tokens) for split in ("train", "val")}
    texts = {split: found for split, (found, _) in encoded.items()}
    weights = balanced_weights(texts["train"], len(labels)) if params.class_weights == "balanced" else None
    task = ClassificationTask(
        texts["train"],
        texts["val"],
        batch_size=params.batch_size,
        micro_batch_size=params.micro_batch_size,
        seed=seed,
        pad_id=tokenizer.pad_id,
        pad_to=params.max_tokens if params.pooling == "last_position" else None,
        class_weights=weights,
        device=device,
    )
    return task, {split: lengths for split, (_, lengths) in encoded.items()}


def view_batch(
    task: ClassificationTask, step: int, decode: Callable[[list[int]], str], labels: Sequence[str]
) -> list[RowView]:
    """Return the rows of a step's batch; the target is the one token at which the class is read."""
    rows = [task.train[number] for number in task.loader.rows(step)]
    ids, read = pad_rows([row.ids for row in rows], task.pad_id, task.pad_to)
    views = []
    for row, tokens, position in zip(rows, ids.tolist(), read.tolist(), strict=True):
        kinds = [MASKED] * len(row.ids) + [PADDING] * (len(tokens) - len(row.ids))
        kinds[position] = TARGET
        texts = [decode([token]) if kind != PADDING else "" for token, kind in zip(tokens, kinds, strict=True)]
        views.append(RowView(labels[row.label], [Piece(*piece) for piece in zip(texts, kinds, strict=True)]))
    return views
