"""Comparison of two result files: rows are paired by content, the last line is a sentence, errors are one line."""

from pathlib import Path
from typing import Any

import pytest

from llmcore.base.errors import UserError
from llmcore.base.files import write_csv, write_jsonl
from llmcore.report.comparison import compare_files

TEXTS = [f"message {number}" for number in range(40)]


def predictions(folder: Path, right: int, order: int = 1) -> Path:
    """Write predictions for 40 messages of which the first `right` are correct; return the file."""
    rows = [
        {"text": text, "label": "ham", "predicted": "ham" if number < right else "spam"}
        for number, text in enumerate(TEXTS)
    ]
    write_csv(folder / "predictions.csv", rows[::order])
    return folder / "predictions.csv"


def answers(folder: Path, f1: float, **extra: Any) -> Path:
    """Write 40 answers with the same F1, the first 20 correct; return the file."""
    rows = [
        {"instruction": text, "input": "", "output": "x", "answer": "y", "correct": number < 20, "token_f1": f1} | extra
        for number, text in enumerate(TEXTS)
    ]
    write_jsonl(folder / "answers.jsonl", rows)
    return folder / "answers.jsonl"


def compare(first: Path, second: Path) -> str:
    return compare_files(first, second, ("one", "two"), 0.95)


def test_classifiers_are_compared_by_accuracy(tmp_path: Path) -> None:
    text = compare(predictions(tmp_path / "a", 10), predictions(tmp_path / "b", 35))
    assert text.startswith("A  one\nB  two\n")
    assert "McNemar p" in text
    assert text.splitlines()[-1].startswith("B is better than A: accuracy 0.875 against 0.25")


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    first = predictions(tmp_path / "a", 30)
    assert compare(first, predictions(tmp_path / "b", 33)) == compare(first, predictions(tmp_path / "c", 33, order=-1))


def test_a_folder_is_searched_for_its_result_file(tmp_path: Path) -> None:
    first, second = predictions(tmp_path / "a/plots", 30), predictions(tmp_path / "b/plots", 33)
    assert compare(tmp_path / "a", tmp_path / "b") == compare(first, second)


def test_answers_are_compared_by_every_score_that_both_files_have(tmp_path: Path) -> None:
    text = compare(answers(tmp_path / "a", 0.5, rouge_l=0.2), answers(tmp_path / "b", 0.75))
    assert "token_f1" in text
    assert "rouge_l" not in text
    assert "+0.2500" in text
    assert text.splitlines()[-1].startswith("B and A cannot be told apart with this test set of 40; no difference")


def test_results_about_different_test_rows_are_refused(tmp_path: Path) -> None:
    first = predictions(tmp_path / "a", 10)
    write_csv(tmp_path / "b.csv", [{"text": TEXTS[0], "label": "spam", "predicted": "ham"}])
    with pytest.raises(UserError, match=r"must be about the same test rows, got 0 shared and 41 in one alone"):
        compare(first, tmp_path / "b.csv")


def test_results_of_different_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be results of the same kind"):
        compare(predictions(tmp_path, 1), answers(tmp_path, 0.5))


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("none", None, "no such file or folder"),
        ("x.txt", "x", "results end in"),
        ("x.csv", "text,label\na,b\n", r"x\.csv, row 1: 'predicted' is missing"),
        ("x.csv", "text,label,predicted\n", "must hold at least one row"),
    ],
)
def test_a_file_without_results_is_an_error(tmp_path: Path, name: str, text: str | None, error: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=error):
        compare(tmp_path / name, predictions(tmp_path / "a", 1))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"correct": "false"}, "'correct' must be true or false, got 'false'"),
        ({"correct": 5}, "'correct' must be true or false, got 5"),
        ({"correct": []}, r"'correct' must be true or false, got \[\]"),
        ({"instruction": ["a"]}, r"'instruction' must be text, got \['a'\]"),
        ({"output": 3}, "'output' must be text, got 3"),
        ({"token_f1": 10**400}, "'token_f1' must be a number of at most 1e\\+100, got 10+\\.\\.\\."),
        ({"token_f1": 1e200}, "'token_f1' must be a number of at most 1e\\+100, got 1e\\+200"),
        ({"rouge_l": "0.5"}, "'rouge_l' must be a number of at most 1e\\+100, got '0.5'"),
        ({"judge_score": True}, "'judge_score' must be a number of at most 1e\\+100, got True"),
        ({"log_likelihood": [1]}, r"'log_likelihood' must be a number of at most 1e\+100, got \[1\]"),
    ],
)
def test_a_value_of_a_wrong_type_is_one_line(tmp_path: Path, wrong: dict[str, Any], error: str) -> None:
    first, second = answers(tmp_path / "a", 0.5), answers(tmp_path / "b", 0.5, **wrong)
    with pytest.raises(UserError, match=rf"answers\.jsonl, row 1: {error}; give what") as raised:
        compare(first, second)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300 + len(str(tmp_path))


def test_a_judge_that_gave_no_score_is_no_error(tmp_path: Path) -> None:
    first = answers(tmp_path / "a", 0.5, judge_score=None)
    assert "judge_score" not in compare(first, answers(tmp_path / "b", 0.5, judge_score=3))


@pytest.mark.parametrize("confidence", [0.9999999999999999, 0.9999995])
def test_confidence_too_near_to_1_is_refused(tmp_path: Path, confidence: float) -> None:
    file = predictions(tmp_path, 10)
    with pytest.raises(UserError, match=r"--confidence: must be at most 0\.999999, got 0\.99999"):
        compare_files(file, file, ("one", "two"), confidence)
    assert "told apart" in compare_files(file, file, ("one", "two"), 0.999999)
