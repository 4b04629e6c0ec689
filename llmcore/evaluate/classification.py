"""How good a classifier is on test rows: scores, their uncertainty, and what they must beat."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from llmcore.evaluate.baselines import tfidf_baseline
from llmcore.evaluate.compare import compare_right
from llmcore.evaluate.scores import (
    Uncertainty,
    average_precision,
    bootstrap,
    classification_intervals,
    classification_metrics,
    confusion_counts,
    lookup_answers,
    most_frequent,
    roc_auc,
)

MISTAKES = 100  # listed


def scores(
    actual: Sequence[str], predicted: Sequence[str], names: Sequence[str], uncertainty: Uncertainty
) -> dict[str, float]:
    """Return `classification_metrics`, each but `rows` with its interval."""
    counts = confusion_counts(actual, predicted, names)
    intervals = classification_intervals(counts, names, uncertainty.confidence, uncertainty.generator)
    return classification_metrics(actual, predicted, names) | intervals


def ranking(
    actual: Sequence[str], probabilities: np.ndarray, names: Sequence[str], uncertainty: Uncertainty
) -> dict[str, float]:
    """Return how well the probability of the second class orders the rows, where there are two classes.

    `probabilities` is (rows, classes). Keys: `roc_auc`, `average_precision`, and their intervals.
    """
    if len(names) != 2 or len(set(actual)) != 2:
        return {}
    positive, chances = np.array([label == names[1] for label in actual]), probabilities[:, 1]
    metrics: dict[str, float] = {}
    for key, score in (("roc_auc", roc_auc), ("average_precision", average_precision)):

        def of_rows(rows: np.ndarray, score: Callable[..., float] = score) -> float:
            return score(positive[rows], chances[rows])

        low, high = bootstrap(len(actual), of_rows, uncertainty.confidence, uncertainty.generator)
        metrics |= {key: score(positive, chances), f"{key}_low": low, f"{key}_high": high}
    return metrics


def baselines(
    train_texts: Sequence[str], train_labels: Sequence[str], test_texts: Sequence[str]
) -> dict[str, list[str]]:
    """Return the classes that three simple ways give to the test texts.

    `majority` names training's commonest class; `lookup` remembers training texts, else does the same;
    `tfidf` counts words.
    """
    return {
        "majority": [most_frequent(train_labels)] * len(test_texts),
        "lookup": lookup_answers(train_texts, train_labels, test_texts),
        "tfidf": tfidf_baseline(train_texts, train_labels, test_texts),
    }


def compared(
    actual: Sequence[str],
    predicted: Sequence[str],
    guesses: Mapping[str, Sequence[str]],
    names: Sequence[str],
    uncertainty: Uncertainty,
) -> dict[str, float]:
    """Return accuracy and macro F1 of each baseline, and how much more accurate the model is than TF-IDF.

    Keys: `<baseline>_accuracy`, `<baseline>_macro_f1`, `gain_over_tfidf`, all with intervals; the gain's is that of
    a paired comparison, so a gain whose interval holds zero is none that this test can show.
    """
    metrics: dict[str, float] = {}
    for baseline, guessed in guesses.items():
        found = scores(actual, guessed, names, uncertainty)
        metrics |= {f"{baseline}_{k}": v for k, v in found.items() if k.startswith(("accuracy", "macro_f1"))}
    right, tfidf = rightness(actual, predicted), rightness(actual, guesses["tfidf"])
    gain = compare_right(tfidf, right, uncertainty.confidence)
    return metrics | {
        "gain_over_tfidf": gain.difference,
        "gain_over_tfidf_low": gain.low,
        "gain_over_tfidf_high": gain.high,
    }


def against_tfidf(metrics: Mapping[str, float]) -> str:
    """Say whether the classifier beats word counts; the leak-free test rows decide where rows leaked."""
    prefix = "leak_free_" if "leak_free_gain_over_tfidf" in metrics else ""
    if f"{prefix}gain_over_tfidf" not in metrics:
        return ""
    gain, low, high = (metrics[f"{prefix}gain_over_tfidf{end}"] for end in ("", "_low", "_high"))
    if low > 0:
        verdict = "beats"
    elif high < 0:
        verdict = "loses to"
    else:
        verdict = "does not beat" if gain <= 0 else "is not shown to beat"
    where = " on the leak-free rows" if prefix else ""
    numbers = f"{gain:+.1%} of messages sorted right [{low:+.1%}, {high:+.1%}]"
    return f"The classifier {verdict} word counts (TF-IDF){where}: {numbers}."


def rightness(actual: Sequence[str], predicted: Sequence[str]) -> list[bool]:
    """Return for each row whether its class was named."""
    return [a == p for a, p in zip(actual, predicted, strict=True)]


def table_of_models(metrics: Mapping[str, float], guesses: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return the model and what it must beat, a row each: accuracy and macro F1 with their intervals."""
    keys = [f"{score}{end}" for score in ("accuracy", "macro_f1") for end in ("", "_low", "_high")]
    prefixes = {"model": ""} | {name: f"{name}_" for name in guesses}
    return [{"model": name} | {key: metrics[prefix + key] for key in keys} for name, prefix in prefixes.items()]


def confident_mistakes(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the wrongly sorted of some predictions, the surest first, MISTAKES at most.

    A prediction has `label`, `predicted` and `p_<name>` of each class.
    """
    wrong = [row for row in rows if row["label"] != row["predicted"]]
    sure = [{"p_predicted": row[f"p_{row['predicted']}"], "p_label": row[f"p_{row['label']}"]} for row in wrong]
    found = [
        {"text": row["text"], "label": row["label"], "predicted": row["predicted"]} | chances
        for row, chances in zip(wrong, sure, strict=True)
    ]
    return sorted(found, key=lambda row: -row["p_predicted"])[:MISTAKES]
