"""The audit of rows and their splits: duplicates, leaks, conflicting labels, damaged text.

Lengths in tokens are not counted here; fine-tuning counts them with the base model's tokenizer.
"""

import math
import re
import unicodedata
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
    "odd_quotes": re.compile(r'\A[^"]*"(?:[^"]*"[^"]*")*[^"]*\Z'),
}
SWALLOWED_LINES = "swallowed_lines"  # a fault that only a table can have
# letters of other scripts that look like Latin ones: Cyrillic, then Greek
LOOKS_LATIN = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u043a\u043c\u0442"
    "\u03b1\u03b5\u03b9\u03ba\u03bf\u03c1\u03c5\u03bd",
    "aeopcyxijskmtaeikopuv",
)


class Entry(NamedTuple):
    """A row as the audit sees it: rows with the same `text` are duplicates, with the same `key` near duplicates."""

    text: str
    key: str
    label: str
    answer: str = ""  # looked at for faults only


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


class LookAlikeCase(TypedDict):
    """Classes whose names differ only in what a reader does not see."""

    labels: list[str]  # as `ascii` spells them, so that the difference shows


class FaultCase(TypedDict):
    """A row whose text or answer is damaged."""

    split: str
    row: int  # from 0
    fault: str  # a key of FAULTS, or SWALLOWED_LINES
    text: str  # the damaged one


@dataclass
class Audit:
    """The counts, and the first MAX_LISTED_CASES cases of leaks, of conflicts and of each fault."""

    metrics: dict[str, float] = field(default_factory=dict)
    leaks: list[LeakCase] = field(default_factory=list)
    conflicts: list[ConflictCase] = field(default_factory=list)
    faults: list[FaultCase] = field(default_factory=list)
    look_alikes: list[LookAlikeCase] = field(default_factory=list)


Splits = Mapping[str, Sequence[Entry]]


def audit_splits(splits: Splits, *, classes: bool = True) -> Audit:
    """Count and list leaks between splits, conflicting labels, and damaged rows.

    `classes`: the labels are classes, and the rows come from a table; otherwise labels are free text.

    Metrics per split: `<split>_rows`; `<split>_duplicates` and `<split>_near_duplicates`, rows that repeat an
    earlier row of the split; `<split>_chars_p50`, `_chars_p95` and `_chars_max`, lengths in characters.
    Per pair of splits: `<a>_in_<b>` and `<a>_near_<b>`, rows of a whose text or key is also in b, so near
    includes exact. Over all splits: `label_conflicts`, keys with more than one label, and the number of
    rows of each fault. With classes: `look_alike_classes`, and `swallowed_lines`, texts of several lines with a
    class between two separators: an unclosed quotation mark in the table has joined rows.
    """
    audit = Audit()
    for name, entries in splits.items():
        audit.metrics |= {f"{name}_{key}": value for key, value in _within(entries).items()}
    for later, earlier in LEAKS:
        _add_leaks(audit, splits, later, earlier)
    _add_conflicts(audit, splits)
    for fault, pattern in FAULTS.items():
        _add_faults(audit, splits, fault, pattern)
    if classes:
        labels = {entry.label for entries in splits.values() for entry in entries}
        _add_faults(audit, splits, SWALLOWED_LINES, _swallowed_row(labels))
        _add_look_alikes(audit, labels)
    return audit


def look_alike_key(label: str) -> str:
    """Return the same key for labels that a reader takes for one: `1` and `1.0`, `Ham` and `ham`, NFC and NFD."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold()).translate(LOOKS_LATIN)
    text = "".join(character for character in text if unicodedata.category(character) not in ("Cf", "Cc"))
    if re.fullmatch(r"[+-]?\d*\.?\d+(?:e[+-]?\d+)?|[+-]?\d+\.", text) and math.isfinite(number := float(text)):
        return repr(number + 0.0)
    return re.sub(r"[\s_-]+", " ", text).strip()


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


def _add_look_alikes(audit: Audit, labels: set[str]) -> None:
    groups: dict[str, list[str]] = {}
    for label in sorted(labels):
        groups.setdefault(look_alike_key(label), []).append(label)
    alike = [[ascii(label) for label in group] for group in groups.values() if len(group) > 1]
    audit.metrics["look_alike_classes"] = sum(map(len, alike))
    audit.look_alikes = [{"labels": group} for group in alike[:MAX_LISTED_CASES]]


def _swallowed_row(labels: set[str]) -> re.Pattern[str]:
    """Return a pattern of a line end with a class in its line as a field: `\\nham,hello`, `hello,ham\\n`.

    Text puts a space behind a comma, a table does not.
    """
    label = f'"?(?:{"|".join(map(re.escape, sorted(labels)))})"?'
    return re.compile(rf"\n(?:[^\n]*\S[,;\t])?{label}[,;\t]\S|\S[,;\t]{label}(?:[,;\t]\S[^\n]*)?\n")


def _add_faults(audit: Audit, splits: Splits, fault: str, pattern: re.Pattern[str]) -> None:
    rows: list[FaultCase] = [
        {"split": name, "row": row, "fault": fault, "text": next(filter(pattern.search, (entry.text, entry.answer)))}
        for name, entries in splits.items()
        for row, entry in enumerate(entries)
        if pattern.search(entry.text) or pattern.search(entry.answer)
    ]
    audit.metrics[fault] = len(rows)
    audit.faults += rows[:MAX_LISTED_CASES]
