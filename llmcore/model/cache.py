"""The key-value cache: what attention has computed for earlier tokens, kept for the later ones.

With it, decoding a token costs one position instead of the whole text. Memory is taken once, for
`max_tokens` positions: two tensors (B, H, max_tokens, D) a layer.
"""

from torch import Tensor


class LayerCache:
    """Keys and values of one attention layer."""

    def __init__(self, keys: Tensor, values: Tensor):
        self.keys, self.values, self.seen_tokens = keys, values, 0

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store (B, H, T, D) behind what is there and return all that was seen: (B, H, S, D) each."""
        end = self.seen_tokens + key.shape[2]
        assert end <= self.keys.shape[2], "the cache is full"  # torch would drop one token too many in silence
        self.keys[:, :, self.seen_tokens : end] = key
        self.values[:, :, self.seen_tokens : end] = value
        self.seen_tokens = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class Cache:
    """One `LayerCache` a layer."""

    def __init__(self, layers: list[LayerCache]):
        self.layers = layers

    @classmethod
    def empty(cls, *, n_layer: int, shape: tuple[int, int, int, int], like: Tensor) -> "Cache":
        """Allocate for `n_layer` layers of `shape` (B, H, max_tokens, D), of `like`'s type and device."""
        return cls([LayerCache(like.new_empty(shape), like.new_empty(shape)) for _ in range(n_layer)])

    @property
    def seen_tokens(self) -> int:
        return self.layers[0].seen_tokens

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows (B',) of the batch only."""
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
