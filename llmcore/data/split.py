"""Divide rows into train, val and test so that rows of one group are all in the same split."""

import re
from collections.abc import Sequence
from typing import Protocol

from llmcore.base.seeds import numpy_generator

SPLITS = ("train", "val", "test")


class SplitParams(Protocol):
    """The keys of params.yaml by which rows are divided."""

    @property
    def split(self) -> str: ...
    @property
    def val_fraction(self) -> float: ...
    @property
    def test_fraction(self) -> float: ...


def normalise_text(text: str) -> str:
    """Return the text with case folded and white space collapsed: `"Hi  You" -> "hi you"`."""
    return " ".join(text.casefold().split())


def normalise_message(text: str) -> str:
    """Return `normalise_text` with each number replaced by 0: `"Call 0800 1" -> "call 0 0"`.

    Copies of a spam message often differ in their numbers only.
    """
    return re.sub(r"\d+", "0", normalise_text(text))


def split_groups(
    keys: Sequence[str], strata: Sequence[str], val_fraction: float, test_fraction: float, seed: int
) -> list[str]:
    """Return the split of each row: rows with the same key share a split, and each stratum has the fractions asked for.

    `keys` and `strata` have one entry per row. A group, the rows of one key, belongs to the stratum of
    most of its rows. The groups of a stratum are shuffled, sorted by size, largest first, and given one by
    one to the split with the lowest (rows + group size - 0.5) / fraction. That is the Sainte-Laguë method
    with rows as seats; it keeps large groups from all going to train and from overfilling a small split.
    The last groups go to splits that would otherwise be empty. A split with fraction 0 gets no rows.
    """
    asked = {"train": 1 - val_fraction - test_fraction, "val": val_fraction, "test": test_fraction}
    fractions = {split: fraction for split, fraction in asked.items() if fraction}
    groups: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    by_stratum: dict[str, list[list[int]]] = {}
    for rows in groups.values():
        by_stratum.setdefault(_majority([strata[row] for row in rows]), []).append(rows)
    splits = [""] * len(keys)
    for stratum in sorted(by_stratum):
        members = by_stratum[stratum]
        order = numpy_generator(seed, "split", stratum).permutation(len(members))
        shuffled = sorted(
            (members[i] for i in order), key=len, reverse=True
        )  # a stable sort: groups of equal size stay shuffled
        for rows, split in zip(shuffled, _apportion([len(rows) for rows in shuffled], fractions), strict=True):
            for row in rows:
                splits[row] = split
    return splits


def _majority(labels: Sequence[str]) -> str:
    return min(set(labels), key=lambda label: (-labels.count(label), label))


def _apportion(sizes: Sequence[int], fractions: dict[str, float]) -> list[str]:
    filled = dict.fromkeys(fractions, 0)
    chosen = []
    for position, size in enumerate(sizes):
        empty = [split for split in fractions if not filled[split]]
        candidates = empty if 0 < len(sizes) - position <= len(empty) else list(fractions)
        split = min(candidates, key=lambda name: (filled[name] + size - 0.5) / fractions[name])
        filled[split] += size
        chosen.append(split)
    return chosen
