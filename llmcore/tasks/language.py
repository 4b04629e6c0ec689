"""Pretraining: predict each next token of the corpus. Book: chapter 5."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from llmcore.base.containers import chunks
from llmcore.data.tokens import join_documents
from llmcore.data.windows import IGNORE_INDEX, Windows, document_windows
from llmcore.model.transformer import LanguageModel
from llmcore.tasks.loader import Loader
from llmcore.tasks.next_token import TokenBatch, mean_loss, next_token_loss

if TYPE_CHECKING:
    from llmcore.tokenizer.tokenizer import Tokenizer

BATCH_SIZE = 8  # windows evaluated together; it changes the last digits at most


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
        self.train = train
        self.val = val
        self.val_bytes = val_bytes
        self.device = device
        self.loader = Loader(
            train.windows["count"],
            lambda rows: collate_windows(train, rows, device),
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            seed=seed,
        )

    @property
    def epoch_tokens(self) -> int:
        """The input tokens of an epoch."""
        return int(self.train.windows["count"].sum())

    def loss_sum(self, model: LanguageModel, batch: TokenBatch) -> Tensor:
        return next_token_loss(model, batch)

    def evaluate(self, model: LanguageModel) -> dict[str, float]:
        """Return `language_metrics` over every validation window."""
        size = self.loader.micro_batch_size
        return language_metrics(model, self.val, text_bytes=self.val_bytes, batch_size=size, device=self.device)


def language_metrics(
    model: LanguageModel, windows: Windows, *, text_bytes: int, batch_size: int, device: torch.device
) -> dict[str, float]:
    """Return the loss over every target of `windows`: nats per token, perplexity, nats and bits per byte.

    `text_bytes` is the length of the text that the targets spell.
    """
    parts = chunks(range(len(windows)), batch_size)
    loss, n_targets = mean_loss(model, lambda part: collate_windows(windows, part, device), parts)
    nats_per_byte = loss * n_targets / text_bytes
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),  # beyond 709 a float overflows
        "nats_per_byte": nats_per_byte,
        "bits_per_byte": nats_per_byte / math.log(2),
    }


def text_metrics(
    model: LanguageModel, tokenizer: "Tokenizer", texts: Sequence[str], *, window_tokens: int
) -> dict[str, float]:
    """Return `language_metrics` of texts with the model's own tokenizer; per byte, different models compare.

    The end of a text counts where the token that ends texts also begins them, as GPT-2's does. A model that begins
    them with another has not learned to predict that one.
    """
    windows = text_windows(tokenizer, texts, window_tokens)
    text_bytes = sum(len(text.encode("utf-8")) for text in texts)
    return language_metrics(model, windows, text_bytes=text_bytes, batch_size=BATCH_SIZE, device=model.device)


def text_windows(tokenizer: "Tokenizer", texts: Sequence[str], window_tokens: int) -> Windows:
    """Return windows in which each token of the texts is a target once, and their ends as in `text_metrics`."""
    start = tokenizer.document_start[-1]
    tokens = join_documents(list(tokenizer.encode_stream(texts)), start)
    ignored_id = None if start == tokenizer.end_of_text else start
    return Windows(tokens, document_windows(tokens, 0, len(tokens.ids), window_tokens), ignored_id)


def collate_windows(windows: Windows, rows: Sequence[int], device: torch.device) -> TokenBatch:
    """Return windows as a batch, padded to the longest of them."""
    numbers = np.asarray(rows)
    inputs, targets = windows.rows(numbers)
    return TokenBatch.of(inputs, targets, int(windows.windows["count"][numbers].sum()), device)


def target_bytes(windows: Windows, token_bytes: np.ndarray) -> int:
    """Return the bytes of text that the targets of all windows spell; end-of-text spells none.

    `token_bytes` (V,) is the length of each token.
    """
    total = 0
    for rows in chunks(np.arange(len(windows)), 256):
        _, targets = windows.rows(rows)
        total += int(token_bytes[targets[targets != IGNORE_INDEX]].sum())
    return total
