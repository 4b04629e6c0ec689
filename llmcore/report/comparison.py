"""Comparison of two evaluations: read their result files, pair the rows, and report which model is better."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmcore.base.errors import UserError
from llmcore.base.files import read_csv, read_jsonl
from llmcore.evaluate.compare import Comparison, check_confidence, compare_correctness, compare_scores, verdict

Row = Mapping[str, Any]

# columns that identify a test row, by the suffix of the result file
ITEM_COLUMNS = {".csv": ("text", "label"), ".jsonl": ("instruction", "input", "output")}
FILE_NAMES = ("predictions.csv", "answers.jsonl")  # searched for in a folder
ANSWER_SCORES = ("token_f1", "rouge_l", "log_likelihood", "judge_score")  # compared where both files have them
MAX_SCORE = 1e100  # beyond, the squares that intervals need would overflow
MAX_SHOWN = 40  # characters of a wrong value in its message


def compare_files(first: Path, second: Path, names: tuple[str, str], confidence: float) -> str:
    """Compare two evaluations of the same test rows; return a table whose last line is a plain sentence.

    The files are `predictions.csv` of a classifier or `answers.jsonl` of an instruction model, given
    directly or by a folder that contains one. Rows are paired by content, so their order does not matter.
    UserError if the files are of different kinds or about different test rows, or `confidence` is too near to 1.
    """
    check_confidence(confidence)
    files = (result_file(first), result_file(second))
    if files[0].suffix != files[1].suffix:
        raise UserError(f"{files[0]}, {files[1]}: must be results of the same kind, got two; give files that compare")
    columns = ITEM_COLUMNS[files[0].suffix]
    rows = pair_rows(read_results(files[0], columns), read_results(files[1], columns), columns, files)
    comparisons = compare_rows(rows, is_classifier=files[0].suffix == ".csv", confidence=confidence)
    main_score, main_comparison = next(iter(comparisons.items()))
    return "\n".join(
        [
            f"A  {names[0]}",
            f"B  {names[1]}",
            "",
            f"{'score':<16} {'A':>9} {'B':>9} {'B - A':>9}  {confidence:.0%} interval",
            *(table_line(score, comparison) for score, comparison in comparisons.items()),
            "",
            verdict(main_comparison, "A", "B", main_score.replace("_", " ")),
        ]
    )


def table_line(score: str, comparison: Comparison) -> str:
    c = comparison
    p_value = "" if c.p_value is None else f"  McNemar p {c.p_value:.3g}"
    return f"{score:<16} {c.first:>9.4f} {c.second:>9.4f} {c.difference:>+9.4f}  [{c.low:+.4f}, {c.high:+.4f}]{p_value}"


def compare_rows(rows: Sequence[tuple[Row, Row]], *, is_classifier: bool, confidence: float) -> dict[str, Comparison]:
    """Return one comparison per score that both results have, the most important score first."""
    if is_classifier:
        return {"accuracy": _compare_by(_is_classified_correctly, rows, confidence)}
    comparisons = {"exact_match": _compare_by(_is_answered_correctly, rows, confidence)}
    for score in ANSWER_SCORES:
        both = [(a[score], b[score]) for a, b in rows if a.get(score) is not None and b.get(score) is not None]
        if both:
            first, second = zip(*both, strict=True)
            generator = np.random.default_rng(0)  # a fixed seed, so that the same files give the same table
            comparisons[score] = compare_scores(first, second, confidence, generator)
    return comparisons


def result_file(path: Path) -> Path:
    """Return the result file at `path`: the file itself, or the only one below a folder. UserError if there is none."""
    if path.is_dir():
        found = sorted(file for name in FILE_NAMES for file in path.rglob(name))
        if len(found) != 1:
            raise UserError(f"{path}: must hold one of {' and '.join(FILE_NAMES)}, found {len(found)}; name the file")
        return found[0]
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder, and no run in MLflow; correct it")
    if path.suffix not in ITEM_COLUMNS:
        raise UserError(f"{path}: results end in {' or '.join(ITEM_COLUMNS)}, got {path.suffix!r}; name such a file")
    return path


def read_results(file: Path, columns: Sequence[str]) -> list[Row]:
    """Return the rows of a result file. UserError if it is empty, or a row lacks a value or has one of a wrong type."""
    rows: Sequence[Row] = list(read_jsonl(file)) if file.suffix == ".jsonl" else read_csv(file)
    is_csv = file.suffix == ".csv"  # whose values are all text
    texts = [*columns, "predicted"] if is_csv else columns
    for number, row in enumerate(rows, start=1):
        if missing := [key for key in (*texts, *([] if is_csv else ["correct"])) if row.get(key) is None]:
            raise UserError(f"{file}, row {number}: {missing[0]!r} is missing; give what an evaluation stage wrote")
        if wrong := _wrong_value(row, texts, () if is_csv else ANSWER_SCORES):
            raise UserError(f"{file}, row {number}: {wrong}; give what an evaluation stage wrote")
    if not rows:
        raise UserError(f"{file}: must hold at least one row, found none; evaluate again")
    return list(rows)


def _wrong_value(row: Row, texts: Sequence[str], scores: Sequence[str]) -> str:
    """Return which value is of a wrong type, and the rule; empty if none is. A missing score is none."""
    for key in texts:
        if not isinstance(row[key], str):
            return f"{key!r} must be text, got {_shown(row[key])}"
    if scores and not isinstance(row["correct"], bool):  # a text such as "false" would count as true
        return f"'correct' must be true or false, got {_shown(row['correct'])}"
    for key in scores:
        if row.get(key) is not None and not _is_score(row[key]):
            return f"{key!r} must be a number of at most {MAX_SCORE:g}, got {_shown(row[key])}"
    return ""


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_SCORE


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def pair_rows(
    first: Sequence[Row], second: Sequence[Row], columns: Sequence[str], files: tuple[Path, Path]
) -> list[tuple[Row, Row]]:
    """Return pairs of rows about the same test row, in the order of `first`.

    Rows with equal `columns` are paired in their order. UserError, naming `files`, if a row has no partner.
    """
    first_by_item = _by_item(first, columns)
    second_by_item = _by_item(second, columns)
    if unpaired := first_by_item.keys() ^ second_by_item.keys():
        shared = len(first_by_item.keys() & second_by_item.keys())
        raise UserError(
            f"{files[0]}, {files[1]}: must be about the same test rows, got {shared} shared and {len(unpaired)} in one "
            f"alone; evaluate both models on one split"
        )
    return [(row, second_by_item[item]) for item, row in first_by_item.items()]


def _by_item(rows: Sequence[Row], columns: Sequence[str]) -> dict[tuple[Any, ...], Row]:
    """Return rows by their values in `columns` and the number of earlier rows with the same values."""
    counts: Counter[tuple[Any, ...]] = Counter()
    by_item = {}
    for row in rows:
        values = tuple(row[column] for column in columns)
        by_item[(*values, counts[values])] = row
        counts[values] += 1
    return by_item


def _compare_by(is_correct: Callable[[Row], bool], rows: Sequence[tuple[Row, Row]], confidence: float) -> Comparison:
    return compare_correctness([is_correct(a) for a, _ in rows], [is_correct(b) for _, b in rows], confidence)


def _is_classified_correctly(row: Row) -> bool:
    return bool(row["predicted"] == row["label"])


def _is_answered_correctly(row: Row) -> bool:
    return row["correct"] is True
