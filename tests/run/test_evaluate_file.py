"""`llmcore evaluate`: a classifier on any labelled table, a language model on any text."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llmcore.base.files import read_csv, read_json
from llmcore.cli import main
from llmcore.data.split import normalise_message
from llmcore.evaluate.baselines import choose_tfidf, tfidf_predictions
from llmcore.evaluate.compare import compare_correctness
from llmcore.evaluate.scores import wilson_interval
from llmcore.generate.classify import classify_texts
from llmcore.generate.open import open_classifier, open_language_model
from llmcore.run.evaluate_file import folds_of
from llmcore.run.evaluate_text import loss_metrics
from llmcore.tasks.language import text_metrics

Classifier = Callable[..., Path]
Command = Callable[..., tuple[int, list[str], list[str]]]
WORDS = ["Anna", "has", "the", "red", "ball", "Tom", "won", "now!"]


@pytest.fixture
def evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[str], list[str]]]:
    """Run `llmcore evaluate` in a folder of its own; exit code, lines of output, lines of errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, list[str], list[str]]:
        code = main(["evaluate", *arguments])
        printed = capsys.readouterr()
        errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
        return code, printed.out.splitlines(), errors

    return call


def labelled(n_rows: int, *labels: str, seed: int = 0) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    return [
        {"text": " ".join(draw.choice(WORDS, draw.integers(3, 8))), "label": str(draw.choice(labels))}
        for _ in range(n_rows)
    ]


def write_rows(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def predicted_by(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    model, tokenizer = open_classifier(folder)
    chances = classify_texts(model, tokenizer, [row["text"] for row in rows], batch_size=8)
    return [model.labels[place] for place in chances.argmax(-1).tolist()]


def test_without_training_rows_the_model_stands_beside_the_most_frequent_label(
    evaluate: Command, classifier: Classifier
) -> None:
    """Accuracy, its interval and the paired difference are those counted by hand."""
    folder = classifier("ham", "spam")
    rows = labelled(150, "ham", "spam", "spam")
    write_rows("mine.jsonl", rows)
    code, out, errors = evaluate("classifier", "mine.jsonl", "--confidence", "0.9")
    assert (code, errors) == (0, [])
    metrics = read_json("reports/evaluate/classifier-mine/metrics.json")
    right = [row["label"] == guess for row, guess in zip(rows, predicted_by(folder, rows), strict=True)]
    majority = [row["label"] == "spam" for row in rows]
    assert metrics["accuracy"] == sum(right) / 150
    assert (metrics["accuracy_low"], metrics["accuracy_high"]) == wilson_interval(sum(right), 150, 0.9)
    assert metrics["own_majority_accuracy"] == sum(majority) / 150
    gain = compare_correctness(majority, right, 0.9)
    assert metrics["gain_over_own_majority"] == gain.difference
    assert (metrics["gain_over_own_majority_low"], metrics["gain_over_own_majority_high"]) == (gain.low, gain.high)
    assert out[0] == "classifier on mine.jsonl: 150 texts, 90% intervals"
    assert out[3].split()[:3] == ["model", f"{sum(right) / 150:.3f}", f"[{metrics['accuracy_low']:.3f},"]
    assert "own_majority answers 'spam' always, the most frequent label of these rows themselves" in out
    assert not any("tfidf" in name or "leak" in name for name in metrics)


def test_training_rows_give_word_counts_and_leaks(evaluate: Command, classifier: Classifier) -> None:
    """TF-IDF learns from all of them, with the settings that a fifth of them chose."""
    classifier("ham", "spam")
    train, test = labelled(120, "ham", "spam", seed=1), labelled(60, "ham", "spam", seed=2)
    test += [{"text": train[0]["text"].upper() + " ", "label": "ham"}, {"text": train[1]["text"], "label": "spam"}]
    known = {normalise_message(row["text"]) for row in train}
    leaked = sum(normalise_message(row["text"]) in known for row in test)
    write_rows("train.jsonl", train)
    write_rows("test.jsonl", test)
    code, out, errors = evaluate("classifier", "test.jsonl", "--train", "train.jsonl", "--out", "here")
    assert (code, errors) == (0, [])
    metrics = read_json("here/metrics.json")
    assert metrics["leaked_rows"] == leaked >= 2
    assert metrics["leak_free_rows"] == len(test) - leaked
    texts, labels = [row["text"] for row in test], [row["label"] for row in test]
    learned: Any = train
    guesses = tfidf_predictions(learned, texts, choose_tfidf(folds_of(learned)))
    assert metrics["tfidf_accuracy"] == np.mean([a == b for a, b in zip(guesses, labels, strict=True)])
    assert [line.split()[0] for line in out[3:7]] == ["model", "majority", "lookup", "tfidf"]
    assert "majority, lookup and tfidf learned from the 120 rows of train.jsonl;" in out
    assert [line for line in out if line.startswith("texts that the training rows have too, ")]


def test_settings_are_chosen_on_rows_whose_copies_are_not_learned_from() -> None:
    rows: Any = labelled(60, "a", "b") * 2
    [(train, held)] = folds_of(rows)
    assert len(train) + len(held) == 120
    assert 0.15 < len(held) / 120 < 0.3
    assert not {row["text"] for row in train} & {row["text"] for row in held}
    single: Any = [{"text": "hi", "label": "a"}]
    assert folds_of(single) == [(single, single)]


def test_tables_and_pictures_are_written(evaluate: Command, classifier: Classifier) -> None:
    classifier("ham", "spam", "other")
    Path("in.csv").write_text("body,class\n" + "Tom won now!,ham\n" * 3 + "Anna has the ball,spam\n" * 2)
    Path("reports").mkdir()
    arguments = ("classifier", "in.csv", "--text-column", "body", "--label-column", "class")
    assert evaluate(*arguments)[0] == 0
    folder = Path("reports/evaluate/classifier-in")
    assert [row["label"] for row in read_csv(folder / "predictions.csv")] == ["ham"] * 3 + ["spam"] * 2
    assert {row["class"]: row["rows"] for row in read_csv(folder / "classes.csv")} == {"ham": "3", "spam": "2"}
    assert not any(name.startswith("class/other/") for name in read_json(folder / "metrics.json"))
    for name in ("confusion.png", "classes.png"):
        assert Image.open(folder / name).size > (400, 100)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert evaluate(*arguments)[0] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_other_files_of_the_folder_stay(evaluate: Command, classifier: Classifier) -> None:
    """`--out .` deletes nothing; a picture of an earlier model with more classes goes."""
    classifier("ham", "spam")
    write_rows("in.jsonl", labelled(5, "ham", "spam"))
    for name in ("notes.txt", "confused_pairs.png"):
        Path(name).write_text("mine")
    assert evaluate("classifier", "in.jsonl", "--out", ".")[0] == 0
    assert Path("notes.txt").read_text() == "mine"
    assert Path("in.jsonl").exists()
    assert not Path("confused_pairs.png").exists()


def test_many_classes_are_drawn(evaluate: Command, classifier: Classifier) -> None:
    labels = [f"c{number}" for number in range(25)]
    classifier(*labels)
    write_rows("in.jsonl", labelled(60, *labels))
    assert evaluate("classifier", "in.jsonl", "--out", "many")[0] == 0
    assert {path.name for path in Path("many").glob("*.png")} == {"confusion.png", "confused_pairs.png", "classes.png"}
    assert not any(name.startswith("class/") for name in read_json("many/metrics.json"))


def test_empty_and_long_texts_are_counted(evaluate: Command, classifier: Classifier) -> None:
    classifier("ham", "spam")
    rows = [{"text": "ball " * 50, "label": "ham"}, {"text": " ", "label": ""}, {"text": "hi", "label": " spam "}]
    write_rows("in.jsonl", rows)
    code, out, _ = evaluate("classifier", "in.jsonl")
    assert code == 0
    assert "rows without text were left out: 1" in out
    assert "texts longer than the model's 12 tokens were cut: 1" in out
    metrics = read_json("reports/evaluate/classifier-in/metrics.json")
    assert (metrics["rows"], metrics["empty_rows"], metrics["cut_rows"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("odd.jsonl", "odd.jsonl: label must be one of 'ham', 'spam', got 'other'; train on rows with this label"),
        ("in.jsonl --train odd.jsonl", "odd.jsonl: label must be one of 'ham', 'spam', got 'other'; train on"),
        ("bare.jsonl", "bare.jsonl, row 2: must have a label in 'label', got none; add it or remove the row"),
        ("in.jsonl --label-column y", "in.jsonl, row 1: must have the column 'y', has only 'text', 'label'; name one"),
        ("empty.jsonl", "empty.jsonl: must have text in 'text', got empty texts alone; name another column"),
        ("none.csv", "none.csv: no such file; "),
        ("a.txt", "a.txt: must end in .csv, .tsv or .jsonl, got 'a.txt'; convert the file"),
        ("in.jsonl --out a.txt", "--out: must be a folder, got the file 'a.txt'; name a folder"),
        ("in.jsonl --confidence 95", "--confidence: must be between 0 and 1, got 95.0; correct it"),
        ("in.jsonl --confidence 0.99999999", "--confidence: must be at most 0.999999, got 0.99999999; lower it"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    evaluate: Command, classifier: Classifier, arguments: str, error: str
) -> None:
    classifier("ham", "spam")
    write_rows("in.jsonl", labelled(4, "ham", "spam"))
    write_rows("odd.jsonl", [*labelled(4, "ham", "spam"), *labelled(1, "other")])
    write_rows("bare.jsonl", [{"text": "a", "label": "ham"}, {"text": "b", "label": None}])
    write_rows("empty.jsonl", [{"text": "", "label": "ham"}])
    Path("a.txt").write_text("text")
    before = sorted(os.listdir())
    code, out, errors = evaluate("classifier", *arguments.split())
    assert (code, out, len(errors)) == (2, [], 1)
    assert errors[0].startswith(f"error: {error}")
    assert sorted(os.listdir()) == before


# ---- language models

TEXT = "Anna has the red ball. Tom won it at the tower!\n" * 30


def test_a_language_model_gets_nats_per_byte_and_perplexity(evaluate: Command, language_model: Path) -> None:
    Path("mine.txt").write_text(TEXT, encoding="utf-8")
    code, out, errors = evaluate("language-model", "mine.txt")
    assert (code, errors) == (0, [])
    metrics = read_json("reports/evaluate/language-model-mine/metrics.json")
    model, tokenizer = open_language_model(language_model)
    with torch.no_grad():
        expected = text_metrics(model.eval(), tokenizer, [TEXT], window_tokens=model.config.context_length)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert metrics["tokens"] == len(tokenizer.encode(TEXT)) + 1  # and the end
    assert metrics["bytes"] == len(TEXT)
    for name in expected:
        assert metrics[f"{name}_low"] < metrics[name] < metrics[f"{name}_high"]
    assert out[2].split()[:4] == ["nats", "per", "byte", f"{metrics['nats_per_byte']:.4g}"]
    assert os.listdir("reports/evaluate/language-model-mine") == ["metrics.json"]


def test_the_documents_of_a_jsonl_file_are_evaluated_each_from_its_start(
    evaluate: Command, language_model: Path
) -> None:
    texts = ["Anna has the red ball.", "Tom won."]
    write_rows("in.jsonl", [{"text": text} for text in texts])
    assert evaluate("language-model", "in.jsonl", "--out", "lm")[0] == 0
    model, tokenizer = open_language_model(language_model)
    expected = text_metrics(model.eval(), tokenizer, texts, window_tokens=model.config.context_length)
    assert read_json("lm/metrics.json")["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_a_single_window_has_no_interval(evaluate: Command, language_model: Path) -> None:
    Path("short.txt").write_text("Tom won.")
    code, out, _ = evaluate("language-model", "short.txt")
    assert code == 0
    assert out[2].endswith(", without interval: a single window")
    assert not any(name.endswith("_low") for name in read_json("reports/evaluate/language-model-short/metrics.json"))


def test_the_interval_of_the_loss_has_the_width_of_theory() -> None:
    draw = np.random.default_rng(0)
    metrics = loss_metrics(50 * draw.normal(3, 0.5, 400), np.full(400, 50), 100_000, 0.95)
    assert metrics["loss_high"] - metrics["loss_low"] == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)
    assert metrics["perplexity_high"] == math.exp(metrics["loss_high"])
    assert metrics["nats_per_byte"] == pytest.approx(metrics["loss"] * 400 * 50 / 100_000)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("in.csv", "language-model: is a language model, which needs a text (.txt, .text, .jsonl), got 'in.csv'; give"),
        ("a.txt --train in.csv", "--train: is for classifiers, and language-model is a language model; leave it out"),
        ("blank.txt", "blank.txt: must not be empty"),
    ],
)
def test_what_a_language_model_cannot_read_is_refused(
    evaluate: Command, language_model: Path, arguments: str, error: str
) -> None:
    Path("in.csv").write_text("text,label\nhi,ham\n")
    Path("a.txt").write_text("text")
    Path("blank.txt").write_text(" ")
    code, out, errors = evaluate("language-model", *arguments.split())
    assert (code, out, len(errors)) == (2, [], 1)
    assert errors[0].startswith(f"error: {error}")
    assert not Path("reports").exists()
