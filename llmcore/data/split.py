"""Divide rows into train, val and test so that no group of equal rows stands in two of them."""

import re
from collections.abc import Sequence

from llmcore.base.seeds import numpy_generator

SPLITS = ("train", "val", "test")


def same_text(text: str) -> str:
    """Return a key that texts share when only case and spacing differ: `"Hi  You" -> "hi you"`."""
    return " ".join(text.casefold().split())


def same_message(text: str) -> str:
    """Like `same_text`, and numbers are alike too: `"Call 0800 1" -> "call 0 0"`. Campaigns vary just those."""
    return re.sub(r"\d+", "0", same_text(text))


def split_groups(
    keys: Sequence[str], strata: Sequence[str], val_fraction: float, test_fraction: float, seed: int
) -> list[str]:
    """Return the split of each row; rows of equal key share one, and each stratum is divided alike.

    A group belongs to the stratum that most of its rows have. Groups of a stratum come in random
    order, largest first, each to the split that it fills least (Sainte-Laguë's rule, rows as seats, a
    group judged by its last one): large groups neither all end in train nor overfill a small split,
    and single rows even out the rest. The last groups go to splits that would stay empty.
    """
    fractions = {"train": 1 - val_fraction - test_fraction, "val": val_fraction, "test": test_fraction}
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
        shuffled = sorted((members[i] for i in order), key=len, reverse=True)  # stable: ties stay shuffled
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
