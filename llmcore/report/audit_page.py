"""The audit of rows for people: a page that needs nothing else, and the lines a stage prints."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

SPLITS = ("train", "val", "test")
COLUMNS = ("rows", "duplicates", "near_duplicates", "chars_p50", "chars_p95", "chars_max")
LEAKS = (("val", "train"), ("test", "train"), ("test", "val"))
PER_SPLIT = tuple(f"{split}_" for split in SPLITS)
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #202124 }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem } th { text-align: left }
th, td { padding: 0.25rem 0.9rem 0.25rem 0; border-bottom: 1px solid #e3e5e8; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
td.text { white-space: pre-wrap; overflow-wrap: anywhere } .bad { color: #b3261e; font-weight: 600 }
.bar { display: inline-block; height: 0.7rem; background: #0072b2; margin-right: 0.5rem }
"""


def audit_lines(metrics: Mapping[str, float]) -> list[str]:
    """Return what a person must know before believing a test score, in two lines."""
    rows, exact, near = (metrics[f"test_{key}"] for key in ("rows", "in_train", "near_train"))
    leak = (
        f"{exact:,} of {rows:,} test rows stand in train word for word, {near:,} but for case, spacing and numbers"
        if near
        else f"none of {rows:,} test rows stands in train"
    )
    faults = {key: count for key, count in _others(metrics).items() if count}
    rest = ", ".join(f"{_words(key)} {count:,}" for key, count in faults.items()) or "nothing"
    return [f"Leaks: {leak}.", f"Rows to look at: {rest}."]


def audit_page(title: str, audit: Mapping[str, Any]) -> str:
    """Return an HTML page about an audit: `metrics`, the listed cases, and `classes` where rows have some.

    It loads nothing: style inside, no script. Every text of the data is escaped.
    """
    metrics = audit["metrics"]
    body = [
        f"<h1>{escape(title)}: the audit</h1>",
        *(f"<p>{escape(line)}</p>" for line in audit_lines(metrics)),
        "<h2>Splits</h2>",
        _table(["split", *map(_words, COLUMNS)], [[s, *(metrics[f"{s}_{c}"] for c in COLUMNS)] for s in SPLITS]),
        "<p>A near duplicate differs from an earlier row of its split in case, spacing and numbers at most; "
        "chars are a row's characters.</p>",
        "<h2>Leaks between splits</h2>",
        _table(
            ["rows of", "that stand in", "word for word", "nearly"],
            [[a, b, _flag(metrics[f"{a}_in_{b}"]), _flag(metrics[f"{a}_near_{b}"])] for a, b in LEAKS],
        ),
        *_classes(audit.get("classes", {})),
        "<h2>Rows to look at</h2>",
        _table(["what", "rows"], [[_words(key), _flag(value)] for key, value in _others(metrics).items()]),
        *_cases("Leaked rows", audit["leaks"], ["split", "row", "also_in", "kind", "text"]),
        *_cases("Equal texts with different labels", audit["conflicts"], ["labels", "text"]),
        *_cases("Damaged texts", audit["faults"], ["split", "row", "fault", "text"]),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}: the audit</title><style>{STYLE}</style>'
    return "\n".join(["<!doctype html>", f'<html lang="en"><head>{head}</head><body>', *body, "</body></html>"]) + "\n"


class Flag(int):
    """A count that should be zero."""


def _flag(value: float) -> Flag:
    return Flag(value)


def _others(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the counts that are of no split and should be zero."""
    sizes = ("rows", "read_rows", "classes")
    return {key: value for key, value in metrics.items() if not key.startswith(PER_SPLIT) and key not in sizes}


def _classes(classes: Mapping[str, Mapping[str, int]]) -> list[str]:
    if not classes:
        return []
    sums = {split: max(sum(counts.values()), 1) for split, counts in classes.items()}
    rows = [[label, *(_Share(classes[split][label], sums[split]) for split in SPLITS)] for label in classes[SPLITS[0]]]
    return ["<h2>Classes</h2>", _table(["class", *SPLITS], rows)]


class _Share:
    """A count as a bar of its share."""

    def __init__(self, count: int, total: int):
        self.html = (
            f'<span class="bar" style="width: {6 * count / total:.2f}rem"></span>{count:,} ({count / total:.1%})'
        )


def _cases(title: str, cases: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    if not cases:
        return []
    rows = [[case[column] for column in columns] for case in cases]
    return [f"<h2>{title}</h2>", f"<p>The first {len(rows)}; rows count from 0.</p>", _table(columns, rows)]


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    rows = [list(row) for row in rows]
    numbers = [all(isinstance(row[column], int) for row in rows) for column in range(len(head))]
    names = "".join(f"<th{_class(numbers[i])}>{escape(_words(name))}</th>" for i, name in enumerate(head))
    return f"<table><tr>{names}</tr>{''.join(map(_row, rows))}</table>"


def _row(values: Sequence[Any]) -> str:
    return f"<tr>{''.join(map(_cell, values))}</tr>"


def _cell(value: Any) -> str:
    if isinstance(value, _Share):
        return f"<td>{value.html}</td>"
    if isinstance(value, int):
        bad = ' class="n bad"' if isinstance(value, Flag) and value else ' class="n"'
        return f"<td{bad}>{value:,}</td>"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f'<td class="text">{escape(text)}</td>'


def _class(number: bool) -> str:
    return ' class="n"' if number else ""


def _words(key: str) -> str:
    return key.replace("_", " ")
