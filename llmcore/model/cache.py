"""The key-value cache: the keys and values of earlier tokens, kept for the later ones.

With it, decoding a token computes one position instead of the whole text. Each row holds a text of its own length from
column 0 on, so that the column of a token is its position. Memory is allocated ahead: two tensors (R, H, S, D) per
layer; the first B rows are in use. Shapes in the margin: R rows allocated, B rows in use, H heads, T new tokens,
S columns, D head size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from llmcore.model.layers import matmul_dtype


class LayerCache:
    """Keys and values of one attention layer, and where the next ones go."""

    def __init__(self, keys: Tensor, values: Tensor):
        self.keys = keys
        self.values = values
        self.rows = len(keys)  # in use
        self.columns = slice(0, 0)  # of the next tokens, if all rows have one length
        self.places: tuple[Tensor, Tensor] | None = None  # otherwise: rows (B, 1) and columns (B, T)

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store (B, H, T, D) behind what is there and return all that was seen: (B, H, S, D) each."""
        keys, values = self.keys[: self.rows], self.values[: self.rows]
        dtype = matmul_dtype(key)
        if not keys.dtype == key.dtype == value.dtype:
            key, value = key.to(keys.dtype), value.to(keys.dtype)
        if self.places is None:
            keys[:, :, self.columns] = key
            values[:, :, self.columns] = value
        else:
            rows, columns = self.places
            keys[rows, :, columns] = key.transpose(1, 2)  # (B, T, H, D), as indexing orders it
            values[rows, :, columns] = value.transpose(1, 2)
        keys, values = keys[:, :, : self.columns.stop], values[:, :, : self.columns.stop]
        if keys.dtype == dtype:
            return keys, values
        return keys.to(dtype), values.to(dtype)  # autocast began or ended after the cache was allocated


class Cache:
    """One `LayerCache` per layer, and the number of tokens that each row has seen."""

    def __init__(self, layers: list[LayerCache], lengths: Sequence[int]):
        self.layers = layers
        self.lengths = list(lengths)

    @classmethod
    def empty(cls, *, n_layer: int, shape: tuple[int, int, int, int], like: Tensor) -> "Cache":
        """Allocate for `n_layer` layers of `shape` (B, H, max_tokens, D), on `like`'s device, as it is multiplied.

        All rows are in use, and have seen nothing.
        """
        dtype = matmul_dtype(like)
        zeros = [like.new_zeros(shape, dtype=dtype) for _ in range(2 * n_layer)]
        layers = [LayerCache(*pair) for pair in zip(zeros[::2], zeros[1::2], strict=True)]
        return cls(layers, [0] * shape[0])

    @property
    def max_tokens(self) -> int:
        return self.layers[0].keys.shape[2]

    @property
    def seen_tokens(self) -> int:
        """Of the longest row."""
        return max(self.lengths, default=0)

    def expect(self, time: int) -> tuple[Tensor, Tensor | None]:
        """Prepare for `time` more tokens of each row; return their positions and where they may look.

        Positions (T,) without a mask if all rows have one length; otherwise (B, T) and a mask (B, 1, T, S).
        """
        end = self.seen_tokens + time
        assert end <= self.max_tokens, "the cache is full"  # torch would drop the token without an error
        device = self.layers[0].keys.device
        columns, places, mask = slice(self.seen_tokens, end), None, None
        positions = torch.arange(end - time, end, device=device)  # (T,)
        if min(self.lengths) < self.seen_tokens:
            begins = torch.tensor(self.lengths, device=device)[:, None]  # (B, 1)
            positions = begins + torch.arange(time, device=device)  # (B, T)
            mask = torch.arange(end, device=device) <= positions[:, None, :, None]
            places = torch.arange(len(begins), device=device)[:, None], positions
        for layer in self.layers:
            layer.rows, layer.columns, layer.places = len(self.lengths), columns, places
        return positions, mask

    def advance(self, time: int) -> None:
        """Count the `time` tokens that each layer has stored."""
        self.lengths = [length + time for length in self.lengths]

    def select_rows(self, rows: Sequence[int]) -> None:
        """Put these rows, which may repeat, in place of those in use."""
        chosen = torch.tensor(list(rows), device=self.layers[0].keys.device)
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[chosen], layer.values[chosen]
        self.lengths = [self.lengths[row] for row in rows]

    def drop_row(self, row: int) -> None:
        """Take a row out of use; the last one moves to its place."""
        last = len(self.lengths) - 1
        if row != last:
            seen = self.lengths[last]
            for layer in self.layers:
                layer.keys[row, :, :seen] = layer.keys[last, :, :seen]
                layer.values[row, :, :seen] = layer.values[last, :, :seen]
        self.lengths[row] = self.lengths[last]
        del self.lengths[last]

    def copy_row(self, row: int, max_tokens: int) -> "Cache":
        """Return a cache of its own for one row, with room for `max_tokens`."""
        assert max_tokens >= self.lengths[row]
        found = self.empty_like(1, max_tokens)
        found.add_row(self, row)
        return found

    def add_row(self, other: "Cache", row: int = 0) -> None:
        """Take a row of another cache into use, behind the others; grow where there is no room."""
        place, seen = len(self.lengths), other.lengths[row]
        if place == len(self.layers[0].keys) or seen > self.max_tokens:
            self.reserve(max(place + 1, 2 * place), max(seen, self.max_tokens))
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.keys[place, :, :seen] = theirs.keys[row, :, :seen]
            mine.values[place, :, :seen] = theirs.values[row, :, :seen]
        self.lengths.append(seen)

    def reserve(self, rows: int, max_tokens: int) -> None:
        """Allocate room for at least this many rows and tokens; what is there stays."""
        allocated, _, columns, _ = self.layers[0].keys.shape
        if rows <= allocated and max_tokens <= columns:
            return
        grown = self.empty_like(max(rows, allocated), max(max_tokens, columns))
        used, seen = len(self.lengths), self.seen_tokens
        for mine, theirs in zip(self.layers, grown.layers, strict=True):
            theirs.keys[:used, :, :seen] = mine.keys[:used, :, :seen]
            theirs.values[:used, :, :seen] = mine.values[:used, :, :seen]
        self.layers = grown.layers

    def empty_like(self, rows: int, max_tokens: int) -> "Cache":
        """Allocate a cache of the same layers, with no row in use."""
        _, heads, _, size = self.layers[0].keys.shape
        found = Cache.empty(n_layer=len(self.layers), shape=(rows, heads, max_tokens, size), like=self.layers[0].keys)
        found.lengths = []
        return found
