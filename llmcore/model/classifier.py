"""A GPT that names a class: the head reads the hidden state of one token. Book: chapter 6."""

from collections import deque

import torch
from torch import Tensor, nn

from llmcore.model.gpt import GPTConfig, Transformer
from llmcore.model.layers import Linear


class GPTClassifier(nn.Module):
    """Ids (B, T) and the position of the token to read (B,) -> logits (B, labels).

    The token is the last real one by default: causal attention lets it see the whole text, and no
    padding behind it can change what it holds. The head has no bias, as transformers' `score`.
    """

    def __init__(self, config: GPTConfig, labels: list[str], pooling: str, max_tokens: int):
        super().__init__()
        self.config, self.labels = config, labels
        self.pooling, self.max_tokens = pooling, max_tokens  # which token is read; longer texts are cut
        self.transformer = Transformer(config)
        self.score = Linear(config.n_embd, len(labels), bias=False)

    def forward(self, ids: Tensor, read: Tensor, below: Tensor | None = None) -> Tensor:
        """`below` (B, T, C), if it is known already, is what the frozen blocks make of the ids."""
        hidden = self.transformer(ids) if below is None else self.transformer.above(below, self.frozen_blocks)
        return self.score(hidden[torch.arange(len(ids), device=ids.device), read])  # (B, labels)

    @property
    def frozen_blocks(self) -> int:
        """How many of the first blocks, and the embeddings under them, are not trained."""
        transformer = self.transformer
        for number, part in enumerate([nn.ModuleList([transformer.wte, transformer.wpe]), *transformer.h]):
            if any(parameter.requires_grad for parameter in part.parameters()):
                return max(0, number - 1)
        return len(transformer.h)

    @torch.no_grad()
    def blocks_below(self, ids: Tensor) -> Tensor:
        """Return what the frozen blocks make of the ids: (B, T) -> (B, T, C)."""
        [below] = deque(self.transformer.states(ids, blocks=self.frozen_blocks), maxlen=1)
        return below

    @torch.no_grad()
    def initialise_head(self, generator: torch.Generator) -> None:
        """Draw the head from N(0, 0.02), as GPT-2's other weights."""
        self.score.weight.normal_(0.0, 0.02, generator=generator)


def choose_trained(model: GPTClassifier, trains: str) -> None:
    """Let `head`, `last_block` (with the final norm and the head, as in the book) or `all` be trained."""
    prefixes = {
        "head": ("score.",),
        "last_block": (f"transformer.h.{model.config.n_layer - 1}.", "transformer.ln_f.", "score."),
        "all": ("",),
    }[trains]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))
