"""Causal multi-head attention, which every architecture shares, and where each token stands and may look.

Book: chapter 3. Shapes in the margin: B batch, T time (tokens), S tokens seen, H heads, D head size.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from llmcore.base.matmul import matmul, uses_openblas
from llmcore.model.cache import Cache
from llmcore.model.layers import matmul_dtype

COPY_GAIN = 5.0  # of the initial value and output projections over GPT-2's: smaller ones copy too weakly to be noticed
BLOCK_QUERIES = 64  # of the portable attention; with more, more of the causal half is computed in vain


class Layout(NamedTuple):
    """The position of each token in its own text, and where it may look; without a mask, at all tokens before it."""

    positions: Tensor  # (T,) or (B, T)
    mask: Tensor | None = None  # (B, 1, T, S), True where a token may look
    rotation: Tensor | None = None  # (2, B or 1, 1, T, D / 2): cosine and sine, where positions turn queries and keys


def layout_of(ids: Tensor, cache: Cache | None = None, segments: Tensor | None = None) -> Layout:
    """Return the layout of `ids` (B, T) behind what the cache holds, or of packed rows with `segments` (B, T)."""
    if segments is not None:
        return packed_layout(segments)
    if cache is not None:
        return Layout(*cache.expect(ids.shape[1]))
    return Layout(torch.arange(ids.shape[1], device=ids.device))


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
    """Compute `explicit_attention` without storing the weights (B, H, T, S).

    `mask` (B, 1, T, S), True where a query may look, replaces the causal one.
    """
    groups, one_query = key.shape[1], query.shape[2] == 1
    if one_query and groups < query.shape[1] and not uses_openblas(query, key, value):
        # the queries that share a head of keys, as one head's queries: no copy of the cache
        folded = query.view(len(query), groups, -1, query.shape[3])  # (B, G, H / G, D)
        found = F.scaled_dot_product_attention(folded, key, value, attn_mask=mask, dropout_p=dropout)
        return found.flatten(1, 2)[:, :, None]  # (B, H, 1, D)
    key, value = repeat_heads(key, query.shape[1]), repeat_heads(value, query.shape[1])
    if uses_openblas(query, key, value) or trains_in_bf16(query):
        query, key, value = (x.to(matmul_dtype(x)) for x in (query, key, value))
        out: Tensor = _BlockedAttention.apply(query, key, value, dropout, mask)  # type: ignore[no-untyped-call]
        return out
    time, seen = query.shape[-2], key.shape[-2]
    if mask is None and time == 1:  # one query at the end sees everything: no mask needed
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    if mask is None and time == seen:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
    mask = causal_mask(time, seen, query.device) if mask is None else mask
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)


def trains_in_bf16(x: Tensor) -> bool:
    """Return whether x is multiplied in bf16 on a CPU, with gradients to come."""
    return torch.is_grad_enabled() and x.device.type == "cpu" and matmul_dtype(x) == torch.bfloat16


class _BlockedAttention(torch.autograd.Function):
    """Attention by blocks of queries, whose weights are computed again in the backward pass.

    In place of torch's fused kernel where that multiplies with MKL, and in bf16, where its backward pass takes up to
    ten times as long; there scores are rounded to bf16, as in transformers' eager attention. It saves the memory that
    Dao et al. 2022 (arXiv:2205.14135) save, and not the time.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, dropout: float, mask: Tensor | None) -> Tensor:
        batch, heads, time, size = query.shape
        out = query.new_empty(batch, time, heads, size).transpose(1, 2)  # (B, H, T, D), as the next layer reads it
        kept = []
        for rows, seen in _query_blocks(time, key.shape[-2]):
            weights = _block_weights(query[:, :, rows], key[:, :, :seen], _block_of(mask, rows, seen))
            if dropout:
                kept.append(torch.empty_like(weights).bernoulli_(1 - dropout).div_(1 - dropout))
                weights = weights * kept[-1]
            out[:, :, rows] = matmul(weights, value[:, :, :seen])
        ctx.save_for_backward(query, key, value, mask, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, *output_grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, *kept = ctx.saved_tensors
        query_grad, key_grad, value_grad = map(torch.zeros_like, (query, key, value))
        for number, (rows, seen) in enumerate(_query_blocks(query.shape[-2], key.shape[-2])):
            grad = output_grads[0][:, :, rows]  # (B, H, t, D)
            weights = _block_weights(query[:, :, rows], key[:, :, :seen], _block_of(mask, rows, seen))
            used = weights * kept[number] if kept else weights
            value_grad[:, :, :seen] += matmul(used.mT, grad)
            weights_grad = matmul(grad, value[:, :, :seen].mT)  # (B, H, t, s)
            if kept:
                weights_grad *= kept[number]
            scores_grad = torch._softmax_backward_data(weights_grad, weights, -1, weights.dtype)
            scores_grad /= math.sqrt(query.shape[-1])
            query_grad[:, :, rows] = matmul(scores_grad, key[:, :, :seen])
            key_grad[:, :, :seen] += matmul(scores_grad.mT, query[:, :, rows])
        return query_grad, key_grad, value_grad, None, None


def _query_blocks(time: int, seen: int) -> Iterator[tuple[slice, int]]:
    """Yield blocks of the queries, which are the last of `seen` positions, and how many keys the block may see."""
    for start in range(0, time, BLOCK_QUERIES):
        stop = min(start + BLOCK_QUERIES, time)
        yield slice(start, stop), seen - time + stop


def _block_of(mask: Tensor | None, rows: slice, seen: int) -> Tensor | None:
    return None if mask is None else mask[:, :, rows, :seen]


def _block_weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Return the attention weights of a block of queries (B, H, t, D) on its keys (B, H, s, D): (B, H, t, s)."""
    scores = matmul(query, key.mT)
    scores /= math.sqrt(query.shape[-1])
    time, seen = scores.shape[-2:]
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    elif time > 1:  # of the keys, only the last `time` can lie in a query's future
        scores[..., seen - time :].masked_fill_(~causal_mask(time, time, query.device), -torch.inf)
    return torch.softmax(scores, -1, out=scores)


def explicit_attention(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Define attention step by step: scores, mask, softmax, dropout, weighted sum.

    query (B, H, T, D), key and value (B, G, S, D) -> (B, H, T, D). Book: chapter 3.5. This is what
    `fused_attention` must equal, and what the attention maps show; the model runs the fused form. With fewer heads
    of keys and values than of queries, G < H, each serves H / G neighbouring heads of queries.
    """
    return matmul(F.dropout(attention_weights(query, key), dropout), repeat_heads(value, query.shape[1]))


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """Return how much each position gathers from which: (B, H, T, S), rows sum to 1, the future is 0."""
    scores = matmul(query, repeat_heads(key, query.shape[1]).mT) / math.sqrt(query.shape[-1])  # (B, H, T, S)
    mask = causal_mask(query.shape[-2], key.shape[-2], query.device)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


def repeat_heads(x: Tensor, n_head: int) -> Tensor:
    """Repeat each head of keys or values for the heads of queries that it serves: (B, G, S, D) -> (B, H, S, D)."""
    groups = x.shape[1]
    return x if groups == n_head else x[:, :, None].expand(-1, -1, n_head // groups, -1, -1).flatten(1, 2)


def causal_mask(time: int, seen: int, device: torch.device) -> Tensor:
    """Return (T, S), True where a query may look: the T queries are the last of S positions."""
    return torch.ones(time, seen, dtype=torch.bool, device=device).tril(seen - time)
