"""The examples of the last screen: few, of different kinds, drawn by seed, with their kind's share of right answers."""

import re
from pathlib import Path
from typing import Any

import pytest

from llmcore.base.errors import UserError
from llmcore.base.files import write_csv, write_json, write_jsonl, write_text
from llmcore.report.comparison import compare_files
from llmcore.report.summary import MAX_EXAMPLES, summary

LONG = 200_000  # characters; Python's csv module reads 131,072 unless told otherwise


def answer(number: int, kind: Any, correct: bool, **other: Any) -> dict[str, Any]:
    row = {"instruction": f"Question {number} of {kind}?", "input": "", "output": "yes", "answer": "no"}
    return row | {"kind": kind, "correct": correct, "checkable": True} | other


def write_answers(root: Path, rows: list[dict[str, Any]]) -> None:
    write_jsonl(root / "reports/evaluate_instruct/tables/answers.jsonl", rows)


def write_predictions(root: Path, labels: dict[str, int], text: str = "") -> None:
    """Write ten messages of each label, of which so many are classified correctly."""
    rows = [
        {"text": f"{label} {number}{text}", "label": label, "predicted": label if number < right else "other"}
        | {"probability": 0.75, "label_probability": 0.25}
        for label, right in labels.items()
        for number in range(10)
    ]
    write_csv(root / "reports/evaluate_classifier/tables/predictions.csv", rows)


def questions(root: Path) -> list[str]:
    return re.findall(r"Question \d+ of (.*)\?", summary(root))


@pytest.mark.parametrize("n_kinds", [1, 3, 5, 40])
def test_examples_are_of_different_kinds_and_few(tmp_path: Path, n_kinds: int) -> None:
    write_answers(tmp_path, [answer(number, f"kind {number % n_kinds}", number % 3 == 0) for number in range(120)])
    write_predictions(tmp_path, {f"class {number}": 5 for number in range(n_kinds)})
    shown = questions(tmp_path)
    assert len(shown) == len(set(shown)) == min(n_kinds, MAX_EXAMPLES)
    classes = re.findall(r"^  (class \d+) \d$", summary(tmp_path), re.MULTILINE)
    assert len(classes) == len(set(classes)) == min(n_kinds, MAX_EXAMPLES)


def test_the_share_of_the_kind_stands_beside_each_example(tmp_path: Path) -> None:
    rows = [answer(number, "sum", number < 3) for number in range(4)]
    rows += [answer(number, "opposite", number < 1) for number in range(4)]
    write_answers(tmp_path, [*rows, answer(0, "free", True, checkable=False)])
    write_predictions(tmp_path, {"ham": 10, "spam": 2})
    text = summary(tmp_path)
    for line in ("sum: 75% of 4 right", "opposite: 25% of 4 right", "free: 100% of 1 word for word as expected"):
        assert f"       {line}\n" in text
    assert "       ham: 100% of 10 right\n" in text
    assert "       spam: 20% of 10 right\n" in text


def test_the_seed_draws_the_examples(tmp_path: Path) -> None:
    write_answers(tmp_path, [answer(number, f"kind {number}", False) for number in range(40)])
    drawn = []
    for seed in (1, 2, 1):
        write_text(tmp_path / "params.yaml", f"seed: {seed}\n")
        drawn.append(questions(tmp_path))
    assert drawn[0] == drawn[2] != drawn[1]


def test_wrong_answers_are_shown_as_often_as_they_are_given(tmp_path: Path) -> None:
    write_answers(tmp_path, [answer(number, "sum", number % 2 == 0) for number in range(100)])
    wrong = 0
    for seed in range(60):
        write_text(tmp_path / "params.yaml", f"seed: {seed}\n")
        wrong += "(expected: yes)" in summary(tmp_path)
    assert 15 <= wrong <= 45


@pytest.mark.parametrize("params", [None, "", "seed: [\n", "seed: x\n", "- 1\n"])
def test_broken_params_do_not_break_the_screen(tmp_path: Path, params: str | None) -> None:
    if params is not None:
        write_text(tmp_path / "params.yaml", params)
    write_answers(tmp_path, [answer(0, "sum", True)])
    assert questions(tmp_path) == ["sum"]


@pytest.mark.parametrize("kind", [None, 3, ["a"], {"a": 1}, "", True])
@pytest.mark.parametrize("checkable", [True, "no", None, [], 1])
def test_rows_without_a_kind_show_different_rows(tmp_path: Path, kind: Any, checkable: Any) -> None:
    write_answers(tmp_path, [answer(number, kind, True, checkable=checkable) for number in range(9)])
    text = summary(tmp_path)
    assert len(set(re.findall(r"Question (\d)", text))) == MAX_EXAMPLES
    assert text.count("all: 100% of 9 right") == (MAX_EXAMPLES if checkable is True else 0)


def test_names_and_texts_of_any_length_and_content_fit_the_screen(tmp_path: Path) -> None:
    hard = "x" * LONG + "\x1b[31m\r\n" + "y " * LONG
    write_answers(tmp_path, [answer(n, f"{n}{hard}", False, output=hard, answer=hard, input=hard) for n in range(9)])
    write_predictions(tmp_path, {f"{number}{hard[:50]}\n\x1b": number for number in range(9)}, text=hard)
    lines = summary(tmp_path).splitlines()
    assert max(len(line) for line in lines) <= 100
    assert len(lines) <= 110
    assert all(line.isprintable() for line in lines)


def test_a_metric_named_like_the_end_of_an_interval_is_not_one(tmp_path: Path) -> None:
    metrics = {"rows": 3, "rows_low": 1, "accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75}
    write_json(tmp_path / "reports/evaluate_classifier/metrics.json", metrics)
    assert "rows 3   accuracy 0.5 [0.25, 0.75]" in summary(tmp_path)


def test_long_texts_are_compared(tmp_path: Path) -> None:
    for folder, right in (("a", 3), ("b", 9)):
        write_predictions(tmp_path / folder, {"ham": right}, text="z" * LONG)
    text = compare_files(tmp_path / "a", tmp_path / "b", ("one", "two"), 0.95)
    assert "accuracy 0.9 against 0.3" in text


def test_a_broken_result_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"text,label,predicted\n\xff,a,b\n")
    with pytest.raises(UserError, match=r"x\.csv: not UTF-8 text \(.*\); convert"):
        compare_files(tmp_path / "x.csv", tmp_path / "x.csv", ("one", "two"), 0.95)
