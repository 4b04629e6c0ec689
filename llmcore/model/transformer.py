"""What the rest of the code knows of a model, whatever its architecture: a transformer and a head.

An architecture subclasses `Transformer`; the heads are the same for all: `LanguageModel` here, `SequenceClassifier`
in its own file. Shapes in the margin: B batch, T time (tokens), C = n_embd, H heads, V = vocab_size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from llmcore.base.errors import UserError
from llmcore.model.attention import Layout, layout_of
from llmcore.model.cache import Cache, LayerCache
from llmcore.model.layers import Linear
from llmcore.model.loss import IGNORE_INDEX, chunked_cross_entropy


@dataclass(frozen=True)
class ModelConfig:
    """What fixes the shape of a model and what it computes; an architecture adds settings of its own."""

    model_type: ClassVar[str]  # names the architecture in config.json
    transformer_name: ClassVar[str]  # Hugging Face's prefix of the tensors below the head

    vocab_size: int
    context_length: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float
    tied_head: bool

    @property
    def key_value_shape(self) -> tuple[int, int]:
        """How many heads of keys and values a layer has, and their size."""
        return self.n_head, self.n_embd // self.n_head


class Block(Protocol):
    """One layer: attention and MLP around a residual stream."""

    def __call__(self, x: Tensor, layout: Layout, cache: LayerCache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        ...

    def attention_weights(self, x: Tensor, layout: Layout) -> Tensor:
        """(B, T, C) -> (B, H, T, T), what the fused kernel does not show"""
        ...


class Transformer(nn.Module):
    """Ids to hidden states: everything of a model but its head."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config

    @property
    def embeddings(self) -> Sequence[nn.Embedding]:
        """The token embedding, and that of positions if there is one."""
        raise NotImplementedError

    @property
    def blocks(self) -> nn.ModuleList:
        raise NotImplementedError

    @property
    def final_norm(self) -> nn.Module:
        raise NotImplementedError

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Return what enters the first block: ids (B, T), positions (T,) or (B, T) -> (B, T, C)."""
        raise NotImplementedError

    def prepared(self, layout: Layout) -> Layout:
        """Return the layout with what all blocks need to know of the positions."""
        return layout

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the initial weights from `generator`."""
        raise NotImplementedError

    def forward(self, ids: Tensor, cache: Cache | None = None, segments: Tensor | None = None) -> Tensor:
        """Return the hidden states after the final norm: (B, T) -> (B, T, C).

        `segments` (B, T) marks the text that each token of a packed row belongs to; texts do not see each other.
        """
        x, layout = self._enter(ids, cache, segments)
        for number, block in enumerate(self.blocks):
            x = block(x, layout, None if cache is None else cache.layers[number])
        if cache is not None:
            cache.advance(ids.shape[1])
        hidden: Tensor = self.final_norm(x)
        return hidden

    def hidden_states(self, ids: Tensor, n_blocks: int | None = None) -> list[Tensor]:
        """Return what enters the first block and what leaves each of the first `n_blocks` (default: all)."""
        x, layout = self._enter(ids, None, None)
        states = [x]
        for block in self.blocks[:n_blocks]:
            x = block(x, layout)
            states.append(x)
        return states

    def forward_from(self, x: Tensor, n_blocks: int) -> Tensor:
        """Continue with what left the first `n_blocks`: (B, T, C) -> (B, T, C)."""
        layout = self.prepared(Layout(torch.arange(x.shape[1], device=x.device)))
        for block in self.blocks[n_blocks:]:
            x = block(x, layout)
        hidden: Tensor = self.final_norm(x)
        return hidden

    def crop_context(self, context_length: int) -> None:
        """Keep the first `context_length` positions; shorter texts give the same hidden states as before."""
        assert 0 < context_length <= self.config.context_length
        self.config = replace(self.config, context_length=context_length)

    def _enter(self, ids: Tensor, cache: Cache | None, segments: Tensor | None) -> tuple[Tensor, Layout]:
        seen = 0 if cache is None else cache.seen_tokens
        layout = self.prepared(layout_of(ids, cache, segments))
        assert seen + ids.shape[1] <= self.config.context_length, "the text is longer than the context"
        return self.embed(ids, layout.positions), layout


class TransformerWithHead(nn.Module):
    """A transformer under the name that Hugging Face gives it, for a head to be put on."""

    def __init__(self, transformer: Transformer):
        super().__init__()
        self.add_module(transformer.config.transformer_name, transformer)
        self.folder = "model"  # where it was read from; errors name it

    @property
    def body(self) -> Transformer:
        """The transformer, whatever its name."""
        return next(module for module in self.children() if isinstance(module, Transformer))

    @property
    def config(self) -> ModelConfig:
        return self.body.config

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def check_finite(self, values: Tensor, what: str) -> Tensor:
        """Return what the model computed; UserError if a number is NaN or infinite: it would mean nothing."""
        # one pass in place of four, once per token: the extremes are NaN if any value is
        if values.numel() and not torch.stack(torch.aminmax(values)).isfinite().all():
            remedy = "its weights are damaged or too large: fetch them again, or train with a lower lr"
            raise UserError(f"{self.folder}: its {what} must be finite, got NaN or infinity; {remedy}")
        return values

    def block_parameters(self) -> set[nn.Parameter]:
        """Return the parameters of the blocks, without embeddings, final norm and head."""
        return set(self.body.blocks.parameters())


class LanguageModel(TransformerWithHead):
    """Ids (B, T) -> logits (B, T, V) of each next token. Book: chapter 4.6."""

    def __init__(self, transformer: Transformer):
        super().__init__(transformer)
        self.lm_head = Linear(self.config.n_embd, self.config.vocab_size, bias=False)
        self.tie()

    def tie(self) -> None:
        """Make the head share the token embedding's parameter, if the config ties them."""
        if self.config.tied_head:
            self.lm_head.weight = self.body.embeddings[0].weight

    def forward(
        self,
        ids: Tensor,
        targets: Tensor | None = None,
        cache: Cache | None = None,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Return the logits (B, T, V), or with `targets` (B, T) the cross-entropy in nats, summed over the targets.

        Targets that are IGNORE_INDEX do not count, and their positions do not go through the head. `positions` (N,)
        are those of the others in the flat batch, where the caller knows them.
        """
        hidden = self.body(ids, cache, segments)  # (B, T, C)
        if targets is None:
            logits: Tensor = self.lm_head(hidden)
            return logits
        hidden, targets = hidden.flatten(0, 1), targets.flatten()  # (B T, C), (B T,)
        if positions is None:
            positions = (targets != IGNORE_INDEX).nonzero()[:, 0]
        if len(positions) < len(targets):
            hidden, targets = hidden[positions], targets[positions]  # (N, C), (N,)
        return chunked_cross_entropy(hidden, self.lm_head.weight, targets)

    def new_cache(self, rows: int, max_tokens: int) -> Cache:
        """Return an empty key-value cache for `rows` texts of at most `max_tokens`."""
        heads, size = self.config.key_value_shape
        like = next(self.body.parameters())
        return Cache.empty(n_layer=self.config.n_layer, shape=(rows, heads, max_tokens, size), like=like)

    @torch.no_grad()
    def crop_context(self, context_length: int) -> None:
        self.body.crop_context(context_length)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the initial weights, an untied head after the transformer."""
        self.body.initialise(generator)
        if not self.config.tied_head:
            with torch.no_grad():
                self.lm_head.weight.normal_(0.0, 0.02, generator=generator)

    @torch.no_grad()
    def attention_maps(self, ids: Tensor) -> Tensor:
        """Return every head's attention weights on `ids` (B, T), in evaluation mode: (L, B, H, T, T)."""
        layout = self.body.prepared(layout_of(ids))
        states = self.body.hidden_states(ids)
        blocks = cast(Iterable[Block], self.body.blocks)
        return torch.stack([block.attention_weights(x, layout) for block, x in zip(blocks, states, strict=False)])


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Return how many parameters a model has and how many of them are trained, a shared one counted once."""
    parameters = list(model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return {"parameters": sum(p.numel() for p in parameters), "trained_parameters": sum(p.numel() for p in trained)}
