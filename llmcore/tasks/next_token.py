"""Predicting the next token: the batch and the losses that pretraining and instruction tuning share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llmcore.base import parallel
from llmcore.base.transfer import to_device
from llmcore.data.windows import IGNORE_INDEX
from llmcore.model.loss import MAX_LOGITS_BYTES
from llmcore.model.transformer import LanguageModel

Part = TypeVar("Part")


@dataclass(frozen=True)
class TokenBatch:
    """Inputs and targets, (B, T) each; a target that is IGNORE_INDEX gives no loss.

    `positions` (N,) are those of the others in the flat batch: counting them later would wait for a GPU. `segments`
    (B, T), where several texts share a row, marks the text that each input belongs to.
    """

    inputs: Tensor
    targets: Tensor
    positions: Tensor
    n_tokens: int  # inputs without padding
    segments: Tensor | None = None

    @classmethod
    def of(
        cls,
        inputs: np.ndarray,
        targets: np.ndarray,
        n_tokens: int,
        device: torch.device,
        segments: np.ndarray | None = None,
    ) -> "TokenBatch":
        def moved(array: np.ndarray) -> Tensor:
            return to_device(torch.from_numpy(array), device)

        positions = np.flatnonzero(targets != IGNORE_INDEX)
        marks = None if segments is None else moved(segments)
        return cls(moved(inputs), moved(targets), moved(positions), n_tokens, marks)

    @property
    def n_targets(self) -> int:
        return len(self.positions)


def next_token_loss(model: LanguageModel, batch: TokenBatch) -> Tensor:
    """Return the cross-entropy in nats, summed over the targets."""
    loss: Tensor = model(batch.inputs, targets=batch.targets, positions=batch.positions, segments=batch.segments)
    return loss


@torch.no_grad()
def row_log_likelihoods(model: LanguageModel, batch: TokenBatch) -> Tensor:
    """Return the natural log of the probability of each row's targets: (B,)."""
    counted = batch.targets != IGNORE_INDEX  # (B, T)
    hidden = model.body(batch.inputs, segments=batch.segments)[counted]  # (N, C)
    most = max(1, MAX_LOGITS_BYTES // 4 // model.config.vocab_size)  # the logits of all could fill the memory
    losses = [
        F.cross_entropy(model.lm_head(some).float(), targets, reduction="none")
        for some, targets in zip(torch.split(hidden, most), torch.split(batch.targets[counted], most), strict=True)
    ]
    rows = counted.nonzero()[:, 0]  # (N,)
    return torch.zeros(len(counted), device=hidden.device).index_add(0, rows, -torch.cat(losses))


@torch.no_grad()
def mean_loss(model: LanguageModel, collate: Callable[[Part], TokenBatch], parts: Sequence[Part]) -> tuple[float, int]:
    """Return the mean loss over all targets of the parts, each collated to a batch, in nats, and their number."""

    def summed(part: Part) -> tuple[float, int]:
        batch = collate(part)
        return next_token_loss(model, batch).item(), batch.n_targets

    losses, counts = zip(*parallel.map_parts(summed, parts, equally=True), strict=True)
    return sum(losses) / sum(counts), sum(counts)
