"""A classifier beside what it must beat, and where it is surely wrong."""

import numpy as np
import pytest

from llmcore.evaluate.classification import (
    MISTAKES,
    against_tfidf,
    baselines,
    compared,
    confident_mistakes,
    ranking,
    scores,
    table_of_models,
)
from llmcore.evaluate.scores import Uncertainty

NAMES = ["ham", "spam"]
TRAIN = ["win a prize", "win now", "see you", "at home", "see me"], ["spam", "spam", "ham", "ham", "ham"]
TEST = ["win a prize", "see all", "home"], ["spam", "ham", "spam"]


def uncertainty() -> Uncertainty:
    return Uncertainty(0.95, np.random.default_rng(0))


def test_each_baseline_answers_in_its_way() -> None:
    guesses = baselines(*TRAIN, TEST[0])
    assert guesses["majority"] == ["ham", "ham", "ham"]
    assert guesses["lookup"] == ["spam", "ham", "ham"]
    assert guesses["tfidf"][:2] == ["spam", "ham"]


def test_model_and_baselines_stand_in_one_table() -> None:
    guesses = baselines(*TRAIN, TEST[0])
    predicted = TEST[1]
    metrics = scores(TEST[1], predicted, NAMES, uncertainty())
    metrics |= compared(TEST[1], predicted, guesses, NAMES, uncertainty())
    table = table_of_models(metrics, guesses)
    assert [row["model"] for row in table] == ["model", "majority", "lookup", "tfidf"]
    assert [row["accuracy"] for row in table] == pytest.approx([1.0, 1 / 3, 2 / 3, 2 / 3])
    assert all(row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] for row in table)
    assert metrics["gain_over_tfidf"] == pytest.approx(1 / 3)


def test_ranking_is_for_two_classes_and_has_intervals() -> None:
    actual = ["ham", "spam"] * 20
    chances = np.linspace(0, 1, 40)
    probabilities = np.stack([1 - chances, chances], axis=1)
    metrics = ranking(actual, probabilities, NAMES, uncertainty())
    for key in ("roc_auc", "average_precision"):
        assert metrics[f"{key}_low"] < metrics[key] < metrics[f"{key}_high"]
    assert ranking(actual, probabilities, [*NAMES, "other"], uncertainty()) == {}
    assert ranking(["ham"] * 40, probabilities, NAMES, uncertainty()) == {}


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
def test_a_model_that_does_not_beat_word_counts_is_said_so(metrics: dict[str, float], words: str) -> None:
    assert against_tfidf(metrics).startswith(words)


def test_the_surest_mistakes_come_first() -> None:
    rows = [
        {"text": str(chance), "label": label, "predicted": "spam", "p_ham": 1 - chance, "p_spam": chance}
        for chance in (0.6, 0.9, 0.7)
        for label in NAMES
    ]
    found = confident_mistakes(rows)
    assert [row["p_predicted"] for row in found] == [0.9, 0.7, 0.6]
    assert {row["label"] for row in found} == {"ham"}
    assert found[0]["p_label"] == pytest.approx(0.1)
    assert len(confident_mistakes(rows * 100)) == MISTAKES
