"""Causal multi-head attention, which every architecture shares, and where each token stands and may look.

Book: chapter 3. Shapes in the margin: B batch, T time (tokens), S tokens seen, H heads, D head size.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from llmcore.model.cache import Cache


class Layout(NamedTuple):
    """The position of each token in its own text, and where it may look; without a mask, at all tokens before it."""

    positions: Tensor  # (T,) or (B, T)
    mask: Tensor | None = None  # (B, 1, T, S), True where a token may look


def layout_of(ids: Tensor, cache: Cache | None = None, segments: Tensor | None = None) -> Layout:
    """Return the layout of `ids` (B, T) behind what the cache holds, or of packed rows with `segments` (B, T)."""
    if segments is not None:
        return packed_layout(segments)
    if cache is not None and cache.starts is not None:
        return Layout(*cache.positions_and_mask())  # (B, 1), (B, 1, 1, S)
    seen = 0 if cache is None else cache.seen_tokens
    return Layout(torch.arange(seen, seen + ids.shape[1], device=ids.device))


def packed_layout(segments: Tensor) -> Layout:
    """Return the layout of rows that hold several texts, none of which sees another.

    `segments` (B, T) is equal within a text: positions (B, T), mask (B, 1, T, T).
    """
    columns = torch.arange(segments.shape[1], device=segments.device)  # (T,)
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    first = torch.where(begins, columns, 0).cummax(dim=1).values  # (B, T) where the token's text begins
    same = segments[:, :, None] == segments[:, None, :]  # (B, T, T)
    return Layout(columns - first, (same & causal_mask(len(columns), len(columns), segments.device))[:, None])


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
