"""Pretraining: predict each next token of the corpus. Book: chapter 5."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from llmcore.base.containers import chunks
from llmcore.data.mixture import Mixture
from llmcore.data.samples import SampledSource
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

    `val_bytes` is the length of the validation text, by which losses of different tokenizers compare. `sources` are
    those of a mixture, in the order of their windows.
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
        sources: Sequence[SampledSource] = (),
    ):
        self.train = train
        self.val = val
        self.val_bytes = val_bytes
        self.device = device
        self.sources = sources
        sizes = [source.train_windows for source in sources]
        self.loader = Loader(
            train.windows["count"],
            lambda rows: collate_windows(train, rows, device),
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            seed=seed,
            draw=Mixture(sizes, [source.epoch_windows for source in sources], seed) if sources else None,
        )

    def loss_sum(self, model: LanguageModel, batch: TokenBatch) -> Tensor:
        return next_token_loss(model, batch)

    def evaluate(self, model: LanguageModel) -> dict[str, float]:
        """Return `language_metrics` over every validation window, and the loss of each source of a mixture."""
        size = self.loader.micro_batch_size
        if not self.sources:
            return language_metrics(model, self.val, text_bytes=self.val_bytes, batch_size=size, device=self.device)
        edges = accumulate((source.val_windows for source in self.sources), initial=0)
        found = [window_loss(model, self.val, range(*rows), size, self.device) for rows in pairwise(edges)]
        n_targets = sum(count for _, count in found)
        loss = sum(loss * count for loss, count in found) / n_targets
        by_source = {f"{source.name}/loss": value for source, (value, _) in zip(self.sources, found, strict=True)}
        return loss_metrics(loss, n_targets, self.val_bytes) | by_source


def language_metrics(
    model: LanguageModel, windows: Windows, *, text_bytes: int, batch_size: int, device: torch.device
) -> dict[str, float]:
    """Return the loss over every target of `windows`: nats per token, perplexity, nats and bits per byte.

    `text_bytes` is the length of the text that the targets spell.
    """
    loss, n_targets = window_loss(model, windows, range(len(windows)), batch_size, device)
    return loss_metrics(loss, n_targets, text_bytes)


def window_loss(
    model: LanguageModel, windows: Windows, rows: range, batch_size: int, device: torch.device
) -> tuple[float, int]:
    """Return the mean loss over all targets of these rows of `windows`, in nats, and the number of targets."""
    return mean_loss(model, lambda part: collate_windows(windows, part, device), chunks(rows, batch_size))


def loss_metrics(loss: float, n_targets: int, text_bytes: int) -> dict[str, float]:
    """Return `language_metrics` of a mean loss over `n_targets`."""
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
