"""What is wrong with rows and their division into splits: duplicates, leaks, contradicting labels, damaged text.

Length in tokens belongs to fine-tuning, which knows the base's tokenizer.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

QUANTILES = (0.5, 0.95)
LISTED = 100  # cases written out of each kind; the counts are always complete
LEAKS = (("val", "train"), ("test", "train"), ("test", "val"))
FAULTS = {  # what a wrong encoding or wrong quoting leaves in a text
    "replacement_characters": re.compile("\N{REPLACEMENT CHARACTER}"),
    "control_characters": re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"),
    "doubly_encoded": re.compile(r"[\xc2\xc3][\x80-\xbf]|\xe2\u20ac"),  # UTF-8 read as Latin-1 or Windows-1252
    "html_entities": re.compile(r"&(?:[a-zA-Z]+|#\d+);"),
    "odd_quotes": re.compile(r'[^"]*"(?:[^"]*"[^"]*")*[^"]*'),
    "swallowed_lines": re.compile(r"[^\n]*\n.*", re.DOTALL),
}
WHOLE = ("odd_quotes", "swallowed_lines")  # match the whole text, not a place in it


class Entry(NamedTuple):
    """A row as the audit sees it; rows of equal `key` are near duplicates, of equal `text` exact ones."""

    text: str
    key: str
    label: str


@dataclass
class Audit:
    """`metrics` is flat; `leaks`, `conflicts` and `faults` write out the first LISTED cases."""

    metrics: dict[str, float] = field(default_factory=dict)
    leaks: list[dict[str, Any]] = field(default_factory=list)
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)


Splits = Mapping[str, Sequence[Entry]]


def audit_splits(splits: Splits, faults: Sequence[str] = tuple(FAULTS)) -> Audit:
    """Count and list what makes a test score dishonest, and the rows with one of the `faults` of FAULTS.

    Metrics of each split: `<split>_rows`, `_duplicates` and `_near_duplicates` (rows that repeat an
    earlier one of the same split), `_chars_p50`, `_chars_p95`, `_chars_max`. Across splits:
    `<a>_in_<b>` and `<a>_near_<b>`, the rows of a whose text, or key, stands in b too; near counts
    exact ones as well. Over all splits: `label_conflicts`, keys with more than one label, and the rows of
    each fault. `swallowed_lines` are line ends in a text: a quotation mark in a table that joined rows.
    """
    audit = Audit()
    for name, entries in splits.items():
        audit.metrics |= {f"{name}_{key}": value for key, value in _within(entries).items()}
    for later, earlier in LEAKS:
        _add_leaks(audit, splits, later, earlier)
    _add_conflicts(audit, splits)
    for fault in faults:
        _add_faults(audit, splits, fault)
    return audit


def class_counts(splits: Splits) -> dict[str, dict[str, int]]:
    """Return the number of rows of each class in each split, classes sorted, zeros included."""
    labels = sorted({entry.label for entries in splits.values() for entry in entries})
    counts = {name: Counter(entry.label for entry in entries) for name, entries in splits.items()}
    return {name: {label: counts[name][label] for label in labels} for name in splits}


def _within(entries: Sequence[Entry]) -> dict[str, int]:
    lengths = sorted(len(entry.text) for entry in entries)
    quantiles = {f"chars_p{q * 100:.0f}": lengths[int(q * (len(lengths) - 1))] for q in QUANTILES}
    return {
        "rows": len(entries),
        "duplicates": len(entries) - len({entry.text for entry in entries}),
        "near_duplicates": len(entries) - len({entry.key for entry in entries}),
        **quantiles,
        "chars_max": lengths[-1],
    }


def _add_leaks(audit: Audit, splits: Splits, later: str, earlier: str) -> None:
    texts, keys = {entry.text for entry in splits[earlier]}, {entry.key for entry in splits[earlier]}
    exact = [entry.text in texts for entry in splits[later]]
    near = [entry.key in keys for entry in splits[later]]
    audit.metrics |= {f"{later}_in_{earlier}": sum(exact), f"{later}_near_{earlier}": sum(near)}
    for row, entry in enumerate(splits[later]):
        if near[row] and len(audit.leaks) < LISTED:
            kind = "exact" if exact[row] else "near"
            audit.leaks.append({"split": later, "row": row, "also_in": earlier, "kind": kind, "text": entry.text})


def _add_conflicts(audit: Audit, splits: Splits) -> None:
    labels: dict[str, set[str]] = {}
    for entries in splits.values():
        for entry in entries:
            labels.setdefault(entry.key, set()).add(entry.label)
    conflicts = [{"text": key, "labels": sorted(found)} for key, found in labels.items() if len(found) > 1]
    audit.metrics["label_conflicts"] = len(conflicts)
    audit.conflicts = conflicts[:LISTED]


def _add_faults(audit: Audit, splits: Splits, fault: str) -> None:
    found = FAULTS[fault].fullmatch if fault in WHOLE else FAULTS[fault].search
    rows = [
        {"split": name, "row": row, "fault": fault, "text": entry.text}
        for name, entries in splits.items()
        for row, entry in enumerate(entries)
        if found(entry.text)
    ]
    audit.metrics[fault] = len(rows)
    audit.faults += rows[:LISTED]
