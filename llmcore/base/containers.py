"""Small helpers for mappings and sequences."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    import numpy as np

Rows = TypeVar("Rows", bound="Sequence[Any] | np.ndarray")


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves under dotted keys: `{"lora": {"rank": 8}}` -> `{"lora.rank": 8}`; `prefix` begins each key."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    return {key: leaf for name in values for key, leaf in flat(values[name], f"{prefix}.{name}".lstrip(".")).items()}


def chunks(rows: Rows, size: int) -> list[Rows]:
    """Cut rows into parts of `size`; the last may be smaller: `chunks([1, 2, 3], 2) -> [[1, 2], [3]]`."""
    return [cast(Rows, rows[begin : begin + size]) for begin in range(0, len(rows), size)]


def common_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return the number of items with which both begin: `common_length("abc", "abd") -> 2`."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
