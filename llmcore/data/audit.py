"""The audit of rows and their splits: duplicates, leaks, conflicting labels, damaged text.

Lengths in tokens are not counted here; fine-tuning counts them with the base model's tokenizer.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict

QUANTILES = (0.5, 0.95)
MAX_LISTED_CASES = 100  # per kind of case; the counts are always complete
LEAKS = (("val", "train"), ("test", "train"), ("test", "val"))
FAULTS = {  # traces of a wrong encoding or wrong quoting
    "replacement_characters": re.compile("\N{REPLACEMENT CHARACTER}"),
    "control_characters": re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"),
    "doubly_encoded": re.compile(r"[\xc2\xc3][\x80-\xbf]|\xe2\u20ac"),  # UTF-8 read as Latin-1 or Windows-1252
    "html_entities": re.compile(r"&(?:[a-zA-Z]+|#\d+);"),
    "odd_quotes": re.compile(r'[^"]*"(?:[^"]*"[^"]*")*[^"]*'),
    "swallowed_lines": re.compile(r"[^\n]*\n.*", re.DOTALL),
}
WHOLE_TEXT_FAULTS = ("odd_quotes", "swallowed_lines")  # their patterns match a whole text


class Entry(NamedTuple):
    """A row as the audit sees it: rows with the same `text` are duplicates, with the same `key` near duplicates."""

    text: str
    key: str
    label: str


class LeakCase(TypedDict):
    """A row whose text also occurs in an earlier split."""

    split: str
    row: int  # from 0
    also_in: str
    kind: str  # exact or near
    text: str


class ConflictCase(TypedDict):
    """A text that has more than one label."""

    text: str  # normalised
    labels: list[str]


class FaultCase(TypedDict):
    """A row whose text is damaged."""

    split: str
    row: int  # from 0
    fault: str  # a key of FAULTS
    text: str


@dataclass
class Audit:
    """The counts, and the first MAX_LISTED_CASES cases of leaks, of conflicts and of each fault."""

    metrics: dict[str, float] = field(default_factory=dict)
    leaks: list[LeakCase] = field(default_factory=list)
    conflicts: list[ConflictCase] = field(default_factory=list)
    faults: list[FaultCase] = field(default_factory=list)


Splits = Mapping[str, Sequence[Entry]]


def audit_splits(splits: Splits, faults: Sequence[str] = tuple(FAULTS)) -> Audit:
    """Count and list leaks between splits, conflicting labels, and rows with one of the `faults`, keys of FAULTS.

    Metrics per split: `<split>_rows`; `<split>_duplicates` and `<split>_near_duplicates`, rows that repeat an
    earlier row of the split; `<split>_chars_p50`, `_chars_p95` and `_chars_max`, lengths in characters.
    Per pair of splits: `<a>_in_<b>` and `<a>_near_<b>`, rows of a whose text or key is also in b, so near
    includes exact. Over all splits: `label_conflicts`, keys with more than one label, and the number of
    rows of each fault. `swallowed_lines` are line ends inside a text: an unclosed quotation mark in the
    table has joined rows.
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
    """Return the number of rows per split and class: classes sorted, zeros included."""
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
    texts = {entry.text for entry in splits[earlier]}
    keys = {entry.key for entry in splits[earlier]}
    exact = [entry.text in texts for entry in splits[later]]
    near = [entry.key in keys for entry in splits[later]]
    audit.metrics |= {f"{later}_in_{earlier}": sum(exact), f"{later}_near_{earlier}": sum(near)}
    for row, entry in enumerate(splits[later]):
        if near[row] and len(audit.leaks) < MAX_LISTED_CASES:
            kind = "exact" if exact[row] else "near"
            audit.leaks.append({"split": later, "row": row, "also_in": earlier, "kind": kind, "text": entry.text})


def _add_conflicts(audit: Audit, splits: Splits) -> None:
    labels: dict[str, set[str]] = {}
    for entries in splits.values():
        for entry in entries:
            labels.setdefault(entry.key, set()).add(entry.label)
    conflicts: list[ConflictCase] = [
        {"text": key, "labels": sorted(found)} for key, found in labels.items() if len(found) > 1
    ]
    audit.metrics["label_conflicts"] = len(conflicts)
    audit.conflicts = conflicts[:MAX_LISTED_CASES]


def _add_faults(audit: Audit, splits: Splits, fault: str) -> None:
    found = FAULTS[fault].fullmatch if fault in WHOLE_TEXT_FAULTS else FAULTS[fault].search
    rows: list[FaultCase] = [
        {"split": name, "row": row, "fault": fault, "text": entry.text}
        for name, entries in splits.items()
        for row, entry in enumerate(entries)
        if found(entry.text)
    ]
    audit.metrics[fault] = len(rows)
    audit.faults += rows[:MAX_LISTED_CASES]
