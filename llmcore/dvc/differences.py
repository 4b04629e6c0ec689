"""Differences between two versions of an output: of tensors, of numbers in JSON, or of bytes."""

import json
import math
from pathlib import Path
from typing import Any


def folder_differences(expected: Path, found: Path) -> list[str]:
    """Return a line per difference between two folders, or two files; none if all bytes are equal."""
    if expected.is_file() or found.is_file():
        return _compare(expected, found, expected.name)
    names = {p.relative_to(top).as_posix() for top in (expected, found) for p in top.rglob("*") if p.is_file()}
    return [line for name in sorted(names) for line in _compare(expected / name, found / name, name)]


def _compare(expected: Path, found: Path, name: str) -> list[str]:
    if not expected.is_file():
        return [f"{name}: only in the rebuilt output"]
    if not found.is_file():
        return [f"{name}: missing in the rebuilt output"]
    before = expected.read_bytes()
    after = found.read_bytes()
    if before == after:
        return []
    try:
        if name.endswith(".safetensors"):
            return [f"{name}: {tensor_difference(before, after)}"]
        if name.endswith(".json"):
            return [f"{name}: {line}" for line in number_differences(json.loads(before), json.loads(after))]
    except ValueError:  # the content does not match the suffix
        pass
    return [f"{name}: {byte_difference(before, after)}"]


def tensor_difference(before: bytes, after: bytes) -> str:
    """Describe the largest absolute difference of tensors in two safetensors files; ValueError if one is broken."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        first = load(before)
        second = load(after)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    shapes = [{name: tuple(tensor.shape) for name, tensor in side.items()} for side in (first, second)]
    if shapes[0] != shapes[1]:
        return "names or shapes of tensors differ"
    largest = {n: (first[n].double() - second[n].double()).abs().max().item() for n in first if first[n].numel()}
    name = max(largest, key=lambda name: largest[name])
    return f"tensors differ by {largest[name]:.3g} at most (in {name})"


def number_differences(before: Any, after: Any, key: str = "") -> list[str]:
    """Return a line per value that differs, numbers with their difference: `val/loss 0.5 -> 0.51 (+0.01)`."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = sorted(before.keys() | after.keys())
        inner = {f"{key}.{name}".strip("."): (before.get(name), after.get(name)) for name in names}
        return [line for name, pair in inner.items() for line in number_differences(*pair, name)]
    if before == after:
        return []
    change = ""
    if all(isinstance(value, int | float) and math.isfinite(value) for value in (before, after)):
        change = f" ({after - before:+.3g})"
    return [f"{key} {before} -> {after}{change}".strip()]


def byte_difference(before: bytes, after: bytes) -> str:
    """Describe the position of the first differing byte, from 0, and both lengths if they differ."""
    common = min(len(before), len(after))
    place = next((i for i in range(common) if before[i] != after[i]), common)
    lengths = "" if len(before) == len(after) else f", {len(before)} bytes -> {len(after)} bytes"
    return f"first differing byte {place}{lengths}"
