"""Reading config.json: each value is checked by one rule, and an error names the key."""

import math
from collections.abc import Mapping
from typing import Any

from llmcore.base.errors import UserError


def check_computed(values: Mapping[str, Any], computed: Mapping[str, tuple[Any, ...]], source: str) -> None:
    """UserError for a setting that the model does not compute; an absent one has the first of the listed values."""
    for key, known in computed.items():
        if (value := values.get(key, known[0])) not in known:
            kind = values["model_type"]
            raise UserError(f"{source}: {key} must be {known[0]!r}, got {value!r}; give another {kind} model")


def positive_integer(values: Mapping[str, Any], key: str, source: str) -> int:
    value = values.get(key)
    if type(value) is not int or value <= 0:  # a bool is an int, too
        raise UserError(f"{source}: {key} must be a positive integer, got {value!r}; restore the file")
    return value


def positive_number(values: Mapping[str, Any], key: str, source: str) -> float:
    value = values.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise UserError(f"{source}: {key} must be a positive number, got {value!r}; restore the file")
    return float(value)


def flag(values: Mapping[str, Any], key: str, source: str, *, default: bool) -> bool:
    value = values.get(key, default)
    if type(value) is not bool:
        raise UserError(f"{source}: {key} must be true or false, got {value!r}; restore the file")
    return value
