"""The GPT: token and positional embeddings, causal multi-head attention, blocks, output head.

Book: chapters 3 (attention) and 4 (the architecture). Paper: Radford et al. 2019, "Language Models
are Unsupervised Multitask Learners". Parameters carry GPT-2's published names (`transformer.h.0.attn
.c_attn.weight`), so loading its weights is a copy.

Shapes in the margin: B batch, T time (tokens), C = n_embd, H heads, D = C / H, V = vocab_size.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmcore.model.cache import Cache, LayerCache
from llmcore.model.layers import Embedding, Linear


@dataclass(frozen=True)
class GPTConfig:
    """What fixes the shape of a GPT and what it computes."""

    vocab_size: int
    context_length: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float
    qkv_bias: bool
    tied_head: bool


class CausalSelfAttention(nn.Module):
    """Each position gathers from itself and the positions before it. Book: chapter 3.6."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=config.qkv_bias)  # query, key, value in one
        self.c_proj = Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, cache: LayerCache | None = None, mask: Tensor | None = None) -> Tensor:
        query, key, value = self.heads(x)  # each (B, H, T, D)
        if cache is not None:
            key, value = cache.append(key, value)  # (B, H, S, D) with S >= T: what was seen before, and x
        dropout = self.dropout if self.training else 0.0
        gathered = fused_attention(query, key, value, dropout, mask)  # (B, H, T, D)
        return self.c_proj(gathered.transpose(1, 2).flatten(2))  # (B, T, C)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project (B, T, C) to query, key and value, split into heads: each (B, H, T, D)."""
        batch, time, _ = x.shape
        projected = self.c_attn(x).view(batch, time, 3, self.n_head, -1)  # (B, T, 3, H, D)
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind()
        return query, key, value


def fused_attention(query: Tensor, key: Tensor, value: Tensor, dropout: float, mask: Tensor | None = None) -> Tensor:
    """Compute `explicit_attention` in one kernel that never stores the weights (B, H, T, S).

    `mask` (B, 1, T, S), True where a query may look, replaces the causal one.
    """
    time, seen = query.shape[-2], key.shape[-2]
    if mask is None and (time == seen or time == 1):  # one query at the end sees everything: no mask needed
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=time > 1)
    mask = causal_mask(time, seen, query.device) if mask is None else mask
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)


def explicit_attention(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Define attention step by step: scores, mask, softmax, dropout, weighted sum.

    query (B, H, T, D), key and value (B, H, S, D) -> (B, H, T, D). Book: chapter 3.5. This is what
    `fused_attention` must equal, and what the attention maps show; the model runs the fused form.
    """
    return F.dropout(attention_weights(query, key), dropout) @ value


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """Return how much each position gathers from which: (B, H, T, S), rows sum to 1, the future is 0."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, H, T, S)
    mask = causal_mask(query.shape[-2], key.shape[-2], query.device)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


def causal_mask(time: int, seen: int, device: torch.device) -> Tensor:
    """Return (T, S), True where a query may look: the T queries are the last of S positions."""
    return torch.ones(time, seen, dtype=torch.bool, device=device).tril(seen - time)


def packed_layout(segments: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each token of packed rows stands in its own text, and where it may look.

    segments (B, T), equal within a text -> positions (B, T), mask (B, 1, T, T).
    """
    places = torch.arange(segments.shape[1], device=segments.device)  # (T,)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    first = torch.where(begins, places, 0).cummax(dim=1).values  # (B, T) where the token's text begins
    same = segments[:, :, None] == segments[:, None, :]  # (B, T, T)
    return places - first, (same & causal_mask(len(places), len(places), segments.device))[:, None]


class MLP(nn.Module):
    """Widen, bend, narrow: the position-wise part of a block. Book: chapter 4.3."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))  # GPT-2's GELU is the tanh form


class Block(nn.Module):
    """Attention, then MLP, each with a layer norm before and a residual around. Book: chapter 4.5."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: LayerCache | None = None, mask: Tensor | None = None) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x), cache, mask))  # (B, T, C)
        return x + self.dropout(self.mlp(self.ln_2(x)))


class Transformer(nn.Module):
    """Ids to hidden states: everything of a GPT but its head."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.context_length, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)

    def forward(self, ids: Tensor, cache: Cache | None = None, segments: Tensor | None = None) -> Tensor:
        [last] = deque(self.states(ids, cache, segments), maxlen=1)  # no other is kept alive
        return self.ln_f(last)  # (B, T, C)

    def states(
        self, ids: Tensor, cache: Cache | None = None, segments: Tensor | None = None, blocks: int | None = None
    ) -> Iterator[Tensor]:
        """Yield what enters the first block and what leaves each of the first `blocks` (all if None): (B, T, C).

        `segments` (B, T) says of packed rows which text each token belongs to: texts do not see each other.
        """
        seen = 0 if cache is None else cache.seen_tokens
        positions, mask = torch.arange(seen, seen + ids.shape[1], device=ids.device), None  # (T,)
        if segments is not None:
            positions, mask = packed_layout(segments)  # (B, T), (B, 1, T, T)
        elif cache is not None and cache.starts is not None:
            positions, mask = cache.layout()  # (B, 1), (B, 1, 1, S)
        else:
            assert seen + ids.shape[1] <= self.wpe.num_embeddings, "the text is longer than the context"
        x = self.dropout(self.wte(ids) + self.wpe(positions))
        yield x
        for layer, block in enumerate(self.h[:blocks]):
            x = block(x, None if cache is None else cache.layers[layer], mask)
            yield x

    def above(self, x: Tensor, blocks: int) -> Tensor:
        """Go on with what left the first `blocks`: (B, T, C) -> (B, T, C)."""
        for block in self.h[blocks:]:
            x = block(x)
        return self.ln_f(x)


class GPT(nn.Module):
    """A language model: ids (B, T) -> logits (B, T, V) of each next token. Book: chapter 4.6."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        self.tie()

    def tie(self) -> None:
        """Make the head share the token embedding's parameter, if the config says so."""
        if self.config.tied_head:
            self.lm_head.weight = self.transformer.wte.weight

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        return self.lm_head(self.transformer(ids, cache))  # (B, T, V)

    @torch.no_grad()
    def cut_context(self, context_length: int) -> None:
        """Forget the positions from `context_length` on; shorter texts give the same logits as before."""
        assert 0 < context_length <= self.config.context_length
        self.config = replace(self.config, context_length=context_length)
        positions = Embedding(context_length, self.config.n_embd)
        positions.weight = nn.Parameter(self.transformer.wpe.weight[:context_length].clone())
        self.transformer.wpe = positions

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw GPT-2's initial weights: N(0, 0.02), residual projections scaled, biases 0, norms 1."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif ".ln_" in name:
                parameter.fill_(1.0)
            else:
                # 2 n_layer residual branches add up; scaling keeps the sum's variance (GPT-2 paper, 2.3)
                scale = math.sqrt(2 * self.config.n_layer) if name.endswith("c_proj.weight") else 1.0
                parameter.normal_(0.0, 0.02 / scale, generator=generator)

    @torch.no_grad()
    def attention_maps(self, ids: Tensor) -> Tensor:
        """Return every head's attention weights on `ids` (B, T), in evaluation mode: (L, B, H, T, T)."""
        maps = []
        for block, state in zip(self.transformer.h, self.transformer.states(ids), strict=False):
            block = cast(Block, block)
            query, key, _ = block.attn.heads(block.ln_1(state))
            maps.append(attention_weights(query, key))
        return torch.stack(maps)


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Return how many parameters a model has and how many of them are trained, a shared one counted once."""
    parameters = list(model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return {"parameters": sum(p.numel() for p in parameters), "trained_parameters": sum(p.numel() for p in trained)}
