"""A transformer that classifies texts: the head reads the hidden state of one token. Book: chapter 6."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from llmcore.model.layers import Linear
from llmcore.model.transformer import Transformer, TransformerWithHead

POOLINGS = ("last_real", "last_position")  # which token is read: the last that is not padding, or the very last


class SequenceClassifier(TransformerWithHead):
    """Ids (B, T) and the position of the token to read (B,) -> logits (B, labels).

    The token is the last real one by default: causal attention lets it see the whole text, and no
    padding after it can change its hidden state. The head has no bias, as transformers' `score`.
    """

    def __init__(self, transformer: Transformer, labels: list[str], pooling: str, max_tokens: int):
        super().__init__(transformer)
        self.labels = labels
        self.pooling = pooling
        self.max_tokens = max_tokens  # longer texts are cut
        self.score = Linear(self.config.n_embd, len(labels), bias=False)

    def forward(self, ids: Tensor, read: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Return the logits; `prefix` (B, T, C) is the output of the frozen blocks where it was computed before."""
        hidden = self.body(ids) if prefix is None else self.body.forward_from(prefix, self.n_frozen_blocks)
        logits: Tensor = self.score(hidden[torch.arange(len(ids), device=ids.device), read])  # (B, labels)
        return logits

    @property
    def n_frozen_blocks(self) -> int:
        """The number of first blocks that, like the embeddings below them, are not trained."""
        for number, part in enumerate([nn.ModuleList(self.body.embeddings), *self.body.blocks]):
            if any(parameter.requires_grad for parameter in part.parameters()):
                return max(0, number - 1)
        return len(self.body.blocks)

    @torch.no_grad()
    def frozen_prefix(self, ids: Tensor) -> Tensor:
        """Return the output of the frozen blocks: (B, T) -> (B, T, C)."""
        return self.body.hidden_states(ids, self.n_frozen_blocks)[-1]

    @torch.no_grad()
    def initialise_head(self, generator: torch.Generator) -> None:
        """Draw the head from N(0, 0.02), as GPT-2's other weights."""
        self.score.weight.normal_(0.0, 0.02, generator=generator)

    def pad(self, rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
        """Return `pad_rows` in the way that the pooling asks for."""
        return pad_rows(rows, pad_id, self.max_tokens if self.pooling == "last_position" else None)


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int, pad_to: int | None) -> tuple[Tensor, Tensor]:
    """Pad on the right and return the position that is read: ids (B, T), positions (B,).

    Without `pad_to`, rows are padded to the longest of them and read at their last real token. With it
    (the book's way) all have that length and are read at the last position, padding or not.
    """
    width = pad_to or max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id)  # (B, T)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    read = torch.tensor([width - 1 if pad_to else len(row) - 1 for row in rows])
    return ids, read


def set_trainable(model: SequenceClassifier, trainable: str) -> None:
    """Train `head`, `last_block` (with the final norm and the head, as in the book) or `all`."""
    parts: dict[str, list[nn.Module]] = {
        "head": [model.score],
        "last_block": [model.body.blocks[-1], model.body.final_norm, model.score],
        "all": [model],
    }
    model.requires_grad_(False)
    for module in parts[trainable]:
        module.requires_grad_(True)
