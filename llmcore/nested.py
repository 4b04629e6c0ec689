"""Mappings in mappings, as params.yaml has them."""

from collections.abc import Mapping
from typing import Any


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves under dotted keys: `{"lora": {"rank": 8}}` -> `{"lora.rank": 8}`; `prefix` begins each key."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    return {key: leaf for name in values for key, leaf in flat(values[name], f"{prefix}.{name}".lstrip(".")).items()}
