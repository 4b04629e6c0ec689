"""How good a classifier is on test rows: scores, their uncertainty, and what they must beat."""

from collections.abc import Sequence

import numpy as np

from llmcore.evaluate.baselines import tfidf_baseline
from llmcore.evaluate.scores import (
    average_precision,
    bootstrap_macro_f1,
    classification_metrics,
    confusion_counts,
    roc_auc,
    wilson,
)


def scores(
    actual: Sequence[str],
    predicted: Sequence[str],
    names: Sequence[str],
    confidence: float,
    generator: np.random.Generator,
) -> dict[str, float]:
    """Return `classification_metrics`, with the intervals in which accuracy and macro F1 may lie."""
    right = sum(a == p for a, p in zip(actual, predicted, strict=True))
    low, high = wilson(right, len(actual), confidence)
    f1_low, f1_high = bootstrap_macro_f1(confusion_counts(actual, predicted, names), confidence, generator)
    intervals = {"accuracy_low": low, "accuracy_high": high, "macro_f1_low": f1_low, "macro_f1_high": f1_high}
    return classification_metrics(actual, predicted, names) | intervals


def ranking(actual: Sequence[str], probabilities: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Return how well the probability of the second class orders the rows, where there are two classes.

    `probabilities` is (rows, classes).
    """
    if len(names) != 2 or len(set(actual)) != 2:
        return {}
    positive, chances = [label == names[1] for label in actual], probabilities[:, 1].tolist()
    return {"roc_auc": roc_auc(positive, chances), "average_precision": average_precision(positive, chances)}


def tfidf_accuracy(
    train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str], test_labels: Sequence[str]
) -> float:
    """Return what word counts and a linear classifier reach on the same rows."""
    guesses = tfidf_baseline(train_texts, train_labels, test_texts)
    return sum(guess == label for guess, label in zip(guesses, test_labels, strict=True)) / len(test_labels)


def leak_free(
    actual: Sequence[str], predicted: Sequence[str], leaked: Sequence[bool], confidence: float
) -> dict[str, float]:
    """Return the accuracy on the rows that did not leak from training, and their number."""
    right = [a == p for a, p, leak in zip(actual, predicted, leaked, strict=True) if not leak]
    low, high = wilson(sum(right), len(right), confidence)
    metrics = {"leak_free_rows": len(right), "leak_free_accuracy_low": low, "leak_free_accuracy_high": high}
    return metrics | ({"leak_free_accuracy": sum(right) / len(right)} if right else {})
