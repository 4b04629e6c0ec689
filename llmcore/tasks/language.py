"""Pretraining: predict each next token of the corpus. Book: chapter 5."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from llmcore.data.order import Order, chunks
from llmcore.data.windows import IGNORED, Windows
from llmcore.model.gpt import GPT
from llmcore.tasks.next_token import TokenBatch, mean_loss, next_token_loss


class LanguageTask:
    """Train on one set of windows, validate on another.

    `val_bytes` is the length of the validation text, by which losses of different tokenizers compare.
    """

    def __init__(
        self,
        train: Windows,
        val: Windows,
        *,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        val_bytes: int,
        device: torch.device,
    ):
        self.train, self.val, self.val_bytes, self.device = train, val, val_bytes, device
        self.micro_batch_size = micro_batch_size
        # windows of documents differ in length: similar ones share a batch, so little of it is padding
        self.order = Order(len(train), batch_size, seed, train.windows["count"])
        self.steps_per_epoch = self.order.steps_per_epoch

    def micro_batches(self, step: int) -> list[TokenBatch]:
        return list(_batches(self.train, self.order.batch(step), self.micro_batch_size, self.device))

    def loss_sum(self, model: GPT, batch: TokenBatch) -> Tensor:
        return next_token_loss(model, batch)

    def evaluate(self, model: GPT) -> dict[str, float]:
        """Return `language_metrics` over every validation window."""
        return language_metrics(
            model, self.val, text_bytes=self.val_bytes, batch_size=self.micro_batch_size, device=self.device
        )


def language_metrics(
    model: GPT, windows: Windows, *, text_bytes: int, batch_size: int, device: torch.device
) -> dict[str, float]:
    """Return the loss over every target of `windows`: nats a token, perplexity, nats and bits a byte.

    `text_bytes` is the length of the text that the targets spell.
    """
    loss, tokens = mean_loss(model, _batches(windows, np.arange(len(windows)), batch_size, device))
    nats_per_byte = loss * tokens / text_bytes
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),  # beyond 709 a float overflows
        "nats_per_byte": nats_per_byte,
        "bits_per_byte": nats_per_byte / math.log(2),
    }


def _batches(windows: Windows, rows: np.ndarray, batch_size: int, device: torch.device) -> Iterator[TokenBatch]:
    for chosen in chunks(rows, batch_size):
        yield TokenBatch.of(*windows.rows(chosen), device)


def target_bytes(windows: Windows, token_bytes: np.ndarray) -> int:
    """Return how many bytes of text the targets of all windows spell; end-of-text spells none.

    `token_bytes` (V,) is the length of each token.
    """
    total = 0
    for chosen in chunks(np.arange(len(windows)), 256):
        _, targets = windows.rows(chosen)
        total += int(token_bytes[targets[targets != IGNORED]].sum())
    return total
