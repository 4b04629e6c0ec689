"""Two results side by side: read predictions or answers, pair their rows, say which model is better."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmcore.base.errors import UserError
from llmcore.base.files import read_jsonl
from llmcore.evaluate.compare import Comparison, compare_correctness, compare_scores, verdict

Row = Mapping[str, Any]

# what makes two rows the same test item, by the kind of file
ITEM = {".csv": ("text", "label"), ".jsonl": ("instruction", "input", "output")}
FILES = ("predictions.csv", "answers.jsonl")  # what a folder is searched for
SCORES = ("token_f1", "rouge_l", "log_likelihood", "judge_score")  # of an answer; those that both files have


def compare_files(first: Path, second: Path, names: tuple[str, str], confidence: float) -> str:
    """Compare two evaluations of the same test rows; return a table and, as the last line, a plain sentence.

    Files are `predictions.csv` of a classifier or `answers.jsonl` of an instruction model. Rows are paired
    by content, so their order does not matter. UserError for files of different kinds or other test rows.
    """
    files = [result_file(path) for path in (first, second)]
    if files[0].suffix != files[1].suffix:
        raise UserError(f"{files[0]}, {files[1]}: must be results of the same kind, got two; give files that compare")
    item = ITEM[files[0].suffix]
    rows = paired(read_results(files[0], item), read_results(files[1], item), item, files)
    compared = comparisons(rows, classifier=files[0].suffix == ".csv", confidence=confidence)
    (score, main), *_ = compared.items()
    lines = [line(score, comparison) for score, comparison in compared.items()]
    head = f"{'score':<16} {'A':>9} {'B':>9} {'B - A':>9}  {confidence:.0%} interval"
    return "\n".join(
        [f"A  {names[0]}", f"B  {names[1]}", "", head, *lines, "", verdict(main, "A", "B", score.replace("_", " "))]
    )


def line(score: str, comparison: Comparison) -> str:
    c = comparison
    p_value = "" if c.p_value is None else f"  McNemar p {c.p_value:.3g}"
    return f"{score:<16} {c.first:>9.4f} {c.second:>9.4f} {c.difference:>+9.4f}  [{c.low:+.4f}, {c.high:+.4f}]{p_value}"


def comparisons(rows: Sequence[tuple[Row, Row]], *, classifier: bool, confidence: float) -> dict[str, Comparison]:
    """Return the comparison of each score that both results have, the most telling first."""
    name, right = ("accuracy", _sorted_right) if classifier else ("exact_match", _answered_right)
    found = {name: compare_correctness([right(a) for a, _ in rows], [right(b) for _, b in rows], confidence)}
    for score in () if classifier else SCORES:
        both = [(a[score], b[score]) for a, b in rows if a.get(score) is not None and b.get(score) is not None]
        if both:
            generator = np.random.default_rng(0)  # any fixed one: the same files give the same lines
            found[score] = compare_scores([a for a, _ in both], [b for _, b in both], confidence, generator)
    return found


def result_file(path: Path) -> Path:
    """Return the results at `path`: the file itself, or the one below that folder."""
    if path.is_dir():
        found = sorted(file for name in FILES for file in path.rglob(name))
        if len(found) != 1:
            raise UserError(f"{path}: must hold one of {' and '.join(FILES)}, found {len(found)}; name the file")
        return found[0]
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder, and no run in MLflow; correct it")
    if path.suffix not in ITEM:
        raise UserError(f"{path}: results end in {' or '.join(ITEM)}, got {path.suffix!r}; name such a file")
    return path


def read_results(file: Path, item: Sequence[str]) -> list[Row]:
    """Read predictions or answers; each must say which item it is about and what came out."""
    if file.suffix == ".jsonl":
        rows: list[Row] = list(read_jsonl(file))
    else:
        with open(file, encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    needed = [*item, "predicted" if file.suffix == ".csv" else "correct"]
    for number, row in enumerate(rows, start=1):
        if missing := [key for key in needed if row.get(key) is None]:
            raise UserError(f"{file}, row {number}: {missing[0]!r} is missing; give what an evaluation stage wrote")
    if not rows:
        raise UserError(f"{file}: must hold at least one row, found none; evaluate again")
    return rows


def paired(first: list[Row], second: list[Row], item: Sequence[str], files: Sequence[Path]) -> list[tuple[Row, Row]]:
    """Return the rows of both about the same item, equal ones in their order."""
    keyed = [_numbered(rows, item) for rows in (first, second)]
    if only := keyed[0].keys() ^ keyed[1].keys():
        shared = len(keyed[0].keys() & keyed[1].keys())
        raise UserError(
            f"{files[0]}, {files[1]}: must be about the same test rows, got {shared} shared and {len(only)} in one "
            f"alone; evaluate both models on one split"
        )
    return [(row, keyed[1][key]) for key, row in keyed[0].items()]


def _numbered(rows: Sequence[Row], item: Sequence[str]) -> dict[tuple[Any, ...], Row]:
    seen: Counter[tuple[Any, ...]] = Counter()
    keyed = {}
    for row in rows:
        key = tuple(row[column] for column in item)
        keyed[(*key, seen[key])] = row
        seen[key] += 1
    return keyed


def _sorted_right(row: Row) -> bool:
    return row["predicted"] == row["label"]


def _answered_right(row: Row) -> bool:
    return bool(row["correct"])
