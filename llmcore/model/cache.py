"""The key-value cache: the keys and values of earlier tokens, kept for the later ones.

With it, decoding a token computes one position instead of the whole text. Memory is allocated once, for
`max_tokens` positions: two tensors (B, H, max_tokens, D) per layer.
"""

import torch
from torch import Tensor


class LayerCache:
    """Keys and values of one attention layer."""

    def __init__(self, keys: Tensor, values: Tensor):
        self.keys = keys
        self.values = values
        self.seen_tokens = 0

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store (B, H, T, D) behind what is there and return all that was seen: (B, H, S, D) each."""
        end = self.seen_tokens + key.shape[2]
        assert end <= self.keys.shape[2], "the cache is full"  # torch would drop the token without an error
        self.keys[:, :, self.seen_tokens : end] = key
        self.values[:, :, self.seen_tokens : end] = value
        self.seen_tokens = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class Cache:
    """One `LayerCache` per layer.

    Texts of different lengths continue together from one column on; `starts` (B,) is the column in which each
    begins. The columns before it are not used.
    """

    def __init__(self, layers: list[LayerCache]):
        self.layers = layers
        self.starts: Tensor | None = None

    @classmethod
    def empty(cls, *, n_layer: int, shape: tuple[int, int, int, int], like: Tensor) -> "Cache":
        """Allocate for `n_layer` layers of `shape` (B, H, max_tokens, D), of `like`'s type and device."""
        return cls([LayerCache(like.new_zeros(shape), like.new_zeros(shape)) for _ in range(n_layer)])

    @property
    def seen_tokens(self) -> int:
        return self.layers[0].seen_tokens

    def view(self, rows: slice, begin: int) -> "Cache":
        """Return a cache for some rows, from column `begin` on, that shares the memory of this one."""
        return Cache([LayerCache(layer.keys[rows, :, begin:], layer.values[rows, :, begin:]) for layer in self.layers])

    def resume_at(self, column: int, starts: Tensor) -> None:
        """Continue all rows from `column`, their views being filled; `starts` (B,) is where each begins."""
        self.starts = starts if starts.any() else None
        for layer in self.layers:
            layer.seen_tokens = column

    def positions_and_mask(self) -> tuple[Tensor, Tensor]:
        """Return the position of one more token per row in its text (B, 1), and its attention mask (B, 1, 1, S)."""
        assert self.starts is not None
        columns = torch.arange(self.seen_tokens + 1, device=self.starts.device)  # (S,)
        return (self.seen_tokens - self.starts)[:, None], (columns >= self.starts[:, None])[:, None, None]

    def select_rows(self, rows: Tensor) -> None:
        """Keep only some rows (B',) of the batch."""
        self.starts = None if self.starts is None else self.starts[rows]
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
