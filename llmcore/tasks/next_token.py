"""Predicting the next token: the batch and the loss that pretraining and instruction tuning share."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llmcore.data.windows import IGNORED
from llmcore.model.gpt import GPT
from llmcore.model.head_loss import head_loss


@dataclass(frozen=True)
class TokenBatch:
    """Inputs and targets, each (B, T); a target that is IGNORED gives no loss.

    `segments` (B, T), where several texts share a row, says which text each input belongs to.
    """

    inputs: Tensor
    targets: Tensor
    supervised: int
    segments: Tensor | None = None

    @classmethod
    def of(
        cls, inputs: np.ndarray, targets: np.ndarray, device: torch.device, segments: np.ndarray | None = None
    ) -> "TokenBatch":
        supervised = int((targets != IGNORED).sum())
        texts = None if segments is None else torch.from_numpy(segments).to(device)
        return cls(torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device), supervised, texts)


def next_token_loss(model: GPT, batch: TokenBatch) -> Tensor:
    """Return the cross-entropy in nats, summed over the supervised targets.

    Only their positions go through the output head.
    """
    chosen = batch.targets != IGNORED  # (B, T)
    hidden = model.transformer(batch.inputs, segments=batch.segments)[chosen]  # (N, C)
    return head_loss(hidden, model.lm_head.weight, batch.targets[chosen])


@torch.no_grad()
def row_log_likelihoods(model: GPT, batch: TokenBatch) -> Tensor:
    """Return the natural log of the probability of each row's supervised targets: (B,)."""
    chosen = batch.targets != IGNORED  # (B, T)
    hidden = model.transformer(batch.inputs, segments=batch.segments)[chosen]  # (N, C)
    losses = F.cross_entropy(model.lm_head(hidden).float(), batch.targets[chosen], reduction="none")  # (N,)
    rows = chosen.nonzero()[:, 0]  # (N,)
    return torch.zeros(len(chosen), device=losses.device).index_add(0, rows, -losses)


@torch.no_grad()
def mean_loss(model: GPT, batches: Iterable[TokenBatch]) -> tuple[float, int]:
    """Return the mean loss over all supervised targets of `batches`, in nats, and their number, 1 at least."""
    total, supervised = 0.0, 0
    for batch in batches:
        if batch.supervised:
            total += next_token_loss(model, batch).item()
            supervised += batch.supervised
    return total / supervised, supervised
