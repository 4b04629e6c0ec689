"""Evaluation of a classifier: its metrics, its baselines, and its most confident errors."""

from typing import cast

import numpy as np
import pytest

from llmcore.base.errors import UserError
from llmcore.base.rows import LabelledRow
from llmcore.evaluate.baselines import MAX_NGRAMS, REGULARISATIONS
from llmcore.evaluate.classification import (
    MAX_LISTED_ERRORS,
    ClassifierResults,
    against_majority,
    against_tfidf,
    baseline_predictions,
    binary_ranking,
    compare_with_baselines,
    evaluate_classifier,
    models_table,
    most_confident_errors,
    scores_with_intervals,
)
from llmcore.evaluate.scores import Uncertainty

NAMES = ["ham", "spam"]
TRAIN_TEXTS = ["win a prize", "win now", "see you", "at home", "see me"]
TRAIN_LABELS = ["spam", "spam", "ham", "ham", "ham"]
TEST_TEXTS = ["win a prize", "see all", "home"]
TEST_LABELS = ["spam", "ham", "spam"]


def uncertainty() -> Uncertainty:
    return Uncertainty(0.95, np.random.default_rng(0))


def rows(texts: list[str], labels: list[str], **extra: float) -> list[LabelledRow]:
    return [
        cast(LabelledRow, {"text": text, "label": label} | extra) for text, label in zip(texts, labels, strict=True)
    ]


TRAIN = rows(TRAIN_TEXTS, TRAIN_LABELS)
VAL = rows(["you win", "me at home"], ["spam", "ham"])


def evaluate(test: list[LabelledRow], names: list[str] = NAMES) -> ClassifierResults:
    """Evaluate a classifier that finds spam 0.75 likely in the first row and 0.25 in all others."""
    probabilities = np.full((len(test), 2), [0.75, 0.25])
    probabilities[0] = [0.25, 0.75]
    return evaluate_classifier(TRAIN, [(TRAIN, VAL)], test, names, probabilities, str.casefold, uncertainty())


def test_results_have_metrics_predictions_errors_and_models() -> None:
    results = evaluate(rows(TEST_TEXTS, TEST_LABELS))
    assert (results.metrics["rows"], results.metrics["accuracy"]) == (3, pytest.approx(2 / 3))
    assert {"roc_auc", "class/spam/f1_low", "tfidf_accuracy", "gain_over_tfidf_high"} <= results.metrics.keys()
    first = {"text": "win a prize", "label": "spam", "predicted": "spam", "p_ham": 0.25, "p_spam": 0.75}
    assert results.predictions[0] == first
    assert [error["text"] for error in results.errors] == ["home"]
    assert [row["model"] for row in results.models] == ["model", "majority", "lookup", "tfidf"]


def test_the_classes_are_in_one_table_the_lowest_f1_first() -> None:
    first, second = evaluate(rows(TEST_TEXTS, TEST_LABELS)).classes
    assert (first["class"], first["rows"], second["class"], second["rows"]) == ("ham", 1, "spam", 2)
    assert (first["f1"], second["f1"]) == pytest.approx((2 / 3, 2 / 3))
    assert (second["precision"], second["recall"]) == (1.0, 0.5)
    assert second["recall_low"] < 0.5 < second["recall_high"]


@pytest.mark.parametrize(("n_classes", "are_metrics"), [(10, True), (11, False)])
def test_the_metrics_have_numbers_of_at_most_ten_classes(n_classes: int, are_metrics: bool) -> None:
    names = [f"class {number:02}" for number in range(n_classes)]
    test = rows(names, names)
    results = evaluate_classifier(test, [(test, test)], test, names, np.eye(n_classes), str.casefold, uncertainty())
    assert any(name.startswith("class/") for name in results.metrics) == are_metrics
    assert len(results.classes) == n_classes


def test_a_class_without_test_rows_has_no_metrics() -> None:
    """Nothing is known of it; macro F1 is the mean over the classes that occur."""
    names = [*NAMES, "other"]
    chances = np.array([[0.2, 0.8, 0.0], [0.9, 0.1, 0.0], [0.8, 0.2, 0.0]])
    test = rows(TEST_TEXTS, TEST_LABELS)
    results = evaluate_classifier(TRAIN, [(TRAIN, VAL)], test, names, chances, str.casefold, uncertainty())
    assert {name.split("/")[1] for name in results.metrics if name.startswith("class/")} == {"ham", "spam"}
    assert [row["class"] for row in results.classes] == ["ham", "spam"]
    assert results.metrics["macro_f1"] == pytest.approx(2 / 3)


def test_without_training_rows_the_baseline_is_the_most_frequent_label_of_the_test() -> None:
    test = rows([*TEST_TEXTS, "go"], [*TEST_LABELS, "spam"])
    chances = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    results = evaluate_classifier([], [], test, NAMES, chances, str.casefold, uncertainty())
    assert [row["model"] for row in results.models] == ["model", "own_majority"]
    assert (results.metrics["own_majority_accuracy"], results.metrics["gain_over_own_majority"]) == (0.75, 0.25)
    assert "leaked_rows" not in results.metrics
    sentence = against_majority(results.metrics, "spam")
    assert sentence.startswith("The classifier is not shown to beat always 'spam': +25.0%")
    assert against_tfidf(results.metrics) == ""


def test_what_validation_chose_for_tfidf_is_a_metric() -> None:
    metrics = evaluate(rows(TEST_TEXTS, TEST_LABELS)).metrics
    assert metrics["tfidf_c"] in REGULARISATIONS
    assert metrics["tfidf_max_ngram"] in MAX_NGRAMS


def test_rows_with_a_training_key_are_leaks_and_the_others_are_scored_again() -> None:
    metrics = evaluate(rows(["WIN A PRIZE", *TEST_TEXTS[1:]], TEST_LABELS)).metrics
    assert metrics["leaked_rows"] == 1
    assert (metrics["leak_free_rows"], metrics["leak_free_accuracy"]) == (2, 0.5)


@pytest.mark.parametrize(
    ("texts", "leaked"), [(["new", "also new", "newer"], 0), (["see me", "see you", "win now"], 3)]
)
def test_leak_free_metrics_need_leaked_and_clean_rows(texts: list[str], leaked: int) -> None:
    metrics = evaluate(rows(texts, TEST_LABELS)).metrics
    assert metrics["leaked_rows"] == leaked
    assert not any(key.startswith("leak_free") for key in metrics)


def test_the_best_possible_accuracy_is_known_where_rows_have_the_probability_of_spam() -> None:
    assert evaluate(rows(TEST_TEXTS, TEST_LABELS, p_spam=0.2)).metrics["best_possible_accuracy"] == pytest.approx(0.8)
    assert "best_possible_accuracy" not in evaluate(rows(TEST_TEXTS, TEST_LABELS)).metrics


def test_a_label_that_the_classifier_does_not_know_is_an_error() -> None:
    with pytest.raises(UserError, match=r"label must be one of 'ham', 'spam', got 'other'; train"):
        evaluate(rows(TEST_TEXTS, ["ham", "spam", "other"]))


def test_each_baseline_predicts_in_its_way() -> None:
    baselines, _ = baseline_predictions(TRAIN, [(TRAIN, VAL)], TEST_TEXTS)
    assert baselines["majority"] == ["ham", "ham", "ham"]
    assert baselines["lookup"] == ["spam", "ham", "ham"]
    assert baselines["tfidf"][:2] == ["spam", "ham"]


def test_model_and_baselines_are_in_one_table() -> None:
    baselines, _ = baseline_predictions(TRAIN, [(TRAIN, VAL)], TEST_TEXTS)
    predicted = TEST_LABELS
    metrics = scores_with_intervals(TEST_LABELS, predicted, NAMES, uncertainty())
    metrics |= compare_with_baselines(TEST_LABELS, predicted, baselines, NAMES, uncertainty())
    table = models_table(metrics, baselines)
    assert [row["model"] for row in table] == ["model", "majority", "lookup", "tfidf"]
    assert [row["accuracy"] for row in table] == pytest.approx([1.0, 1 / 3, 2 / 3, 2 / 3])
    assert all(row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] for row in table)
    assert metrics["gain_over_tfidf"] == pytest.approx(1 / 3)


def test_ranking_needs_two_classes_and_has_intervals() -> None:
    actual = ["ham", "spam"] * 20
    chances = np.linspace(0, 1, 40)
    probabilities = np.stack([1 - chances, chances], axis=1)
    metrics = binary_ranking(actual, probabilities, NAMES, uncertainty())
    for key in ("roc_auc", "average_precision"):
        assert metrics[f"{key}_low"] < metrics[key] < metrics[f"{key}_high"]
    assert binary_ranking(actual, probabilities, [*NAMES, "other"], uncertainty()) == {}
    assert binary_ranking(["ham"] * 40, probabilities, NAMES, uncertainty()) == {}


def gain(value: float, low: float, high: float, prefix: str = "") -> dict[str, float]:
    name = f"{prefix}gain_over_tfidf"
    return {name: value, f"{name}_low": low, f"{name}_high": high}


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (gain(0.1, 0.05, 0.15), "The classifier beats word counts (TF-IDF): +10.0%"),
        (gain(-0.1, -0.15, -0.05), "The classifier loses to word counts"),
        (gain(-0.01, -0.05, 0.03), "The classifier does not beat word counts"),
        (gain(0.01, -0.03, 0.05), "The classifier is not shown to beat word counts"),
        (
            gain(0.1, 0.05, 0.15) | gain(-0.1, -0.15, -0.05, "leak_free_"),
            "The classifier loses to word counts (TF-IDF) on the leak-free rows",
        ),
    ],
)
def test_one_sentence_says_whether_the_model_beats_word_counts(metrics: dict[str, float], words: str) -> None:
    assert against_tfidf(metrics).startswith(words)


def test_the_most_confident_errors_come_first() -> None:
    rows = [
        {"text": str(chance), "label": label, "predicted": "spam", "p_ham": 1 - chance, "p_spam": chance}
        for chance in (0.6, 0.9, 0.7)
        for label in NAMES
    ]
    found = most_confident_errors(rows)
    assert [row["p_predicted"] for row in found] == [0.9, 0.7, 0.6]
    assert {row["label"] for row in found} == {"ham"}
    assert found[0]["p_label"] == pytest.approx(0.1)
    assert len(most_confident_errors(rows * 100)) == MAX_LISTED_ERRORS
