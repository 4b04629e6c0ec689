"""The last screen of `make repro`: complete, narrow, and no error where something is not built."""

from pathlib import Path

import pytest

from llmcore.base.errors import UserError
from llmcore.base.files import write_csv, write_json, write_jsonl, write_text
from llmcore.report.summary import summary

METRICS_FILE = "reports/evaluate_classifier/metrics.json"


@pytest.fixture
def built(tmp_path) -> Path:
    reports = tmp_path / "reports"
    write_json(reports / "pretrain/metrics.json", {"val/loss": 1.23456789, "parameters": 1234567, "above_floor": 0.12})
    write_json(reports / "download_text/metrics.json", {"documents": 12000, "bytes": 1})
    interval = {"accuracy": 0.95667, "accuracy_low": 0.9273, "accuracy_high": 0.9746, "shown_low": 1}
    write_json(reports / "evaluate_classifier/metrics.json", interval)
    write_text(reports / "pretrain/tables/sample.txt", "One day " + "Ann lost a ball. " * 60 + "\n\nSecond.\n")
    rows = [
        {
            "text": "You won\x1b[31m!\nCall " + "now " * 60,
            "label": "spam",
            "predicted": "spam",
            "p_ham": 0.02,
            "p_spam": 0.98,
        },
        {"text": "second spam", "label": "spam", "predicted": "spam", "p_ham": 0.02, "p_spam": 0.98},
        {"text": "See you", "label": "ham", "predicted": "spam", "p_ham": 0.4, "p_spam": 0.6},
    ]
    write_csv(reports / "evaluate_classifier/tables/predictions.csv", rows)
    answers = [
        {
            "instruction": "Who has it?",
            "input": "Ann has it.",
            "output": "Ann",
            "answer": "Ann",
            "kind": "who",
            "correct": True,
        },
        {"instruction": "Who else?", "input": "", "output": "Bo", "answer": "Bo", "kind": "who", "correct": True},
        {"instruction": "Add up.", "input": "", "output": "3", "answer": "4", "kind": "sum", "correct": False},
        {"instruction": "Tell.", "input": "", "output": "x", "answer": "y", "kind": "free", "correct": False},
    ]
    write_jsonl(reports / "evaluate_instruct/tables/answers.jsonl", [row | {"checkable": True} for row in answers])
    return tmp_path


def test_metrics_intervals_and_examples_are_shown(built):
    text = summary(built)
    assert "val/loss 1.235" in text
    assert "parameters 1,234,567" in text
    assert "  download_text         documents 12,000   bytes 1\n" in text
    assert "accuracy 0.9567 [0.9273, 0.9746]" in text
    assert "accuracy_low" not in text
    assert "One day Ann lost a ball." in text
    assert "-> spam (98%)\n" in text
    assert "-> spam (60%), wrongly: ham" in text
    assert "Ann has it.\n    -> Ann\n" in text or "Who else?\n    -> Bo\n" in text  # one of its kind
    assert "-> 4   (expected: 3)" in text
    assert "make ui" in text


def test_lines_fit_a_terminal_and_hold_no_control_character(built):
    lines = summary(built).splitlines()
    assert max(len(line) for line in lines) <= 100
    assert len(lines) <= 60
    assert all(line.isprintable() for line in lines)


GAIN = {"gain_over_tfidf": -0.01, "gain_over_tfidf_low": -0.02, "gain_over_tfidf_high": 0.01}


def test_where_word_counts_are_not_beaten_the_commands_to_try_are_shown(built: Path) -> None:
    write_text(built / "params.yaml", "weights: {path: models/pretrain}\nclassifier: {epochs: 3}\n")
    write_json(built / METRICS_FILE, GAIN)
    text = summary(built)
    for advice in ("llmcore preset smollm2-sms ", "classifier.epochs: 6 ", "dvc repro evaluate_classifier "):
        assert advice in text
    assert max(map(len, text.splitlines())) <= 100
    write_json(built / METRICS_FILE, {name: value + 0.1 for name, value in GAIN.items()})
    assert "what to try" not in summary(built)


def test_the_advice_knows_own_data_and_a_downloaded_base(built: Path) -> None:
    write_json(built / METRICS_FILE, GAIN)
    write_text(built / "params.yaml", "sources: {spam: {kind: local}}\n")
    assert "llmcore preset classify-own " in summary(built)
    write_text(built / "params.yaml", "weights: {path: data/raw/weights/smollm2-135m}\n")
    assert "llmcore preset" not in summary(built)


@pytest.mark.parametrize(
    "params", ["[]", "weights: 3\nclassifier: []\nsources: {spam: x}", "{", "classifier: {epochs: x}"]
)
def test_the_advice_needs_no_readable_params(built: Path, params: str) -> None:
    write_json(built / METRICS_FILE, GAIN)
    write_text(built / "params.yaml", params)
    assert "classifier.epochs: more " in summary(built)


def test_what_is_not_built_is_listed_with_its_command(tmp_path):
    text = summary(tmp_path)
    assert text.count("not built yet") == 4
    assert "not built yet: dvc repro pretrain" in text


METRICS = "evaluate_classifier/metrics.json"
PREDICTIONS = "evaluate_classifier/tables/predictions.csv"
ANSWERS = "evaluate_instruct/tables/answers.jsonl"
GOOD = '{"instruction": "a", "input": "", "output": "b", "answer": "c", "correct": true}\n'


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        (METRICS, b"[]", "must be a JSON object, got []"),
        (METRICS, b'"x"', "must be a JSON object, got 'x'"),
        (METRICS, b'{"accuracy": "x"}', "'accuracy': must be a number, got 'x'"),
        (METRICS, b'{"accuracy": null}', "'accuracy': must be a number, got nothing"),
        (METRICS, b'{"accuracy": 1' + b"0" * 400 + b"}", "'accuracy': must be a number, got 1000"),
        (METRICS, b'{"gain_over_tfidf": 0.5}', "must have 'gain_over_tfidf_low', got nothing"),
        (PREDICTIONS, b"text,predicted\na,b\n", "row 1: 'label' must be text, got nothing"),
        (PREDICTIONS, b"text,label\na,b\n", "row 1: 'predicted' must be text, got nothing"),
        (PREDICTIONS, b"label,predicted\na,b\n", "row 1: 'text' must be text, got nothing"),
        (PREDICTIONS, b"\xef\xbb\xbftext,label,predicted\na,b,b\n", "row 1: 'text' must be text, got nothing"),
        (PREDICTIONS, b"text,label,predicted\na,b,b\na,b\n", "row 2: 'predicted' must be text, got nothing"),
        (PREDICTIONS, b"text,label,predicted,probability\na,b,b,abc\n", "must be a number from 0 to 1, got 'abc'"),
        (PREDICTIONS, b"text,label,predicted,p_b\na,b,b,inf\n", "must be a number from 0 to 1, got 'inf'"),
        *[
            (ANSWERS, (GOOD + GOOD.replace(old, new)).encode(), f"row 2: {error}")
            for old, new, error in (
                ('"instruction": "a", ', "", "'instruction' must be text, got nothing"),
                ('"answer": "c", ', "", "'answer' must be text, got nothing"),
                ('"b"', "3", "'output' must be text, got 3"),
                ('"a"', '["a"]', "'instruction' must be text, got ['a']"),
                ('""', "null", "'input' must be text, got nothing"),
                ("true", '"false"', "'correct' must be true or false, got 'false'"),
            )
        ],
        ("pretrain/tables/sample.txt", b"One \xff day", "must be UTF-8 text, got b'\\xff'"),
    ],
)
def test_a_damaged_report_is_one_line_with_its_stage(built: Path, name: str, content: bytes, error: str) -> None:
    file = built / "reports" / name
    file.write_bytes(content)
    with pytest.raises(UserError) as raised:
        summary(built)
    message = str(raised.value)
    assert message.startswith(str(file))
    assert error in message
    assert message.endswith(f"; run `dvc repro {name.partition('/')[0]}` to write it again")
    assert "\n" not in message
