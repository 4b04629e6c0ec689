"""Evaluation of a classifier on test rows: scores with intervals, baselines, and its most confident errors."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmcore.base.errors import UserError
from llmcore.base.rows import LabelledRow
from llmcore.evaluate.baselines import Rows, choose_tfidf, lookup_answers, most_frequent, tfidf_predictions
from llmcore.evaluate.compare import compare_correctness
from llmcore.evaluate.metric_names import class_metric, interval_ends, is_of_class, prefixed
from llmcore.evaluate.scores import (
    Uncertainty,
    classification_intervals,
    classification_metrics,
    confusion_counts,
    ranking_metrics,
)

MAX_LISTED_ERRORS = 100
MAX_LISTED_LABELS = 10  # in an error's text
MAX_MEASURED_CLASSES = 10  # of the metrics; the numbers of more classes stand in the table of classes alone
MAX_PROBABILITY_COLUMNS = 20  # of a prediction; with more classes only those of its two classes are written


@dataclass(frozen=True)
class ClassifierResults:
    """`metrics` is flat. `predictions` has one row per test row; `errors` are the most confident wrong ones.

    `models` compares the classifier with its baselines, one row per model; `classes` has one row per class, that with
    the lowest F1 first.
    """

    metrics: dict[str, float]
    predictions: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    models: list[dict[str, Any]]
    classes: list[dict[str, Any]]


def evaluate_classifier(
    train: Sequence[LabelledRow],
    folds: Sequence[tuple[Rows, Rows]],
    test: Sequence[LabelledRow],
    labels: Sequence[str],
    probabilities: np.ndarray,
    key: Callable[[str], str],
    uncertainty: Uncertainty,
) -> ClassifierResults:
    """Evaluate the predictions for `test`, and what baselines learn from `train`, TF-IDF tuned on `folds`.

    `probabilities` is (test rows, labels). `key` normalises a text: a test row leaks if a training text has
    the same key. If some rows leak, the metrics `leak_free_...` are those of the others. Without training rows
    leaks are unknown, and the only baseline is `own_majority`, the most frequent label of `test` itself. UserError
    if a test row has a label that is not in `labels`.
    """
    texts = [row["text"] for row in test]
    actual = [row["label"] for row in test]
    check_labels(actual, labels, "test rows")
    predicted = [labels[index] for index in probabilities.argmax(-1)]
    if train:
        baselines, choice = baseline_predictions(train, folds, texts)
    else:
        baselines, choice = {"own_majority": [most_frequent(actual)] * len(test)}, {}
    train_keys = {key(row["text"]) for row in train}
    leak_free = [row for row, text in enumerate(texts) if key(text) not in train_keys]

    def metrics_of(rows: Sequence[int]) -> dict[str, float]:
        actual_of = [actual[row] for row in rows]
        predicted_of = [predicted[row] for row in rows]
        baselines_of = {name: [guesses[row] for row in rows] for name, guesses in baselines.items()}
        return {
            **scores_with_intervals(actual_of, predicted_of, labels, uncertainty),
            **binary_ranking(actual_of, probabilities[list(rows)], labels, uncertainty),
            **compare_with_baselines(actual_of, predicted_of, baselines_of, labels, uncertainty),
        }

    metrics = metrics_of(range(len(test))) | choice | best_possible_accuracy(test)
    if train:
        metrics["leaked_rows"] = len(test) - len(leak_free)
    if 0 < len(leak_free) < len(test):
        metrics |= {prefixed("leak_free_", name): value for name, value in metrics_of(leak_free).items()}
    predictions = prediction_rows(texts, actual, predicted, labels, probabilities)
    errors = most_confident_errors(predictions)
    models = models_table(metrics, baselines)
    classes = classes_table(metrics, labels, Counter(actual))
    if len(labels) > MAX_MEASURED_CLASSES:
        metrics = {name: value for name, value in metrics.items() if not is_of_class(name)}
    return ClassifierResults(metrics, predictions, errors, models, classes)


def check_labels(found: Iterable[str], labels: Sequence[str], where: str) -> None:
    """UserError, naming `where`, if one of the labels found is not in `labels`."""
    if unknown := sorted(set(found) - set(labels)):
        known = ", ".join([*map(repr, labels[:MAX_LISTED_LABELS]), *["..."] * (len(labels) > MAX_LISTED_LABELS)])
        raise UserError(f"{where}: label must be one of {known}, got {unknown[0]!r}; train on rows with this label")


def scores_with_intervals(
    actual: Sequence[str], predicted: Sequence[str], names: Sequence[str], uncertainty: Uncertainty
) -> dict[str, float]:
    """Return `classification_metrics`, all except `rows` with their interval."""
    counts = confusion_counts(actual, predicted, names)
    intervals = classification_intervals(counts, names, uncertainty.confidence, uncertainty.generator)
    return classification_metrics(actual, predicted, names) | intervals


def overall_scores(
    actual: Sequence[str], predicted: Sequence[str], names: Sequence[str], uncertainty: Uncertainty
) -> dict[str, float]:
    """Return `accuracy` and `macro_f1` with their intervals."""
    counts = confusion_counts(actual, predicted, names)
    metrics = classification_metrics(actual, predicted, names)
    intervals = classification_intervals(counts, names, uncertainty.confidence, uncertainty.generator, per_class=False)
    return {score: metrics[score] for score in ("accuracy", "macro_f1")} | intervals


def binary_ranking(
    actual: Sequence[str], probabilities: np.ndarray, names: Sequence[str], uncertainty: Uncertainty
) -> dict[str, float]:
    """Return how well the probability of the second of two classes orders the rows; empty for other numbers.

    `probabilities` is (rows, classes). Keys: `roc_auc`, `average_precision`, and their intervals.
    """
    if len(names) != 2 or len(set(actual)) != 2:
        return {}
    positive = np.array([label == names[1] for label in actual])
    return ranking_metrics(positive, probabilities[:, 1], uncertainty)


def baseline_predictions(
    train: Rows, folds: Sequence[tuple[Rows, Rows]], test_texts: Sequence[str]
) -> tuple[dict[str, list[str]], dict[str, float]]:
    """Return the classes that each baseline predicts for the test texts, and what the folds chose for TF-IDF.

    `majority` always predicts the most frequent class of training; `lookup` repeats the label of an equal
    training text, or else predicts the majority; `tfidf` is a linear classifier of word counts.
    """
    texts = [row["text"] for row in train]
    labels = [row["label"] for row in train]
    choice = choose_tfidf(folds)
    predictions = {
        "majority": [most_frequent(labels)] * len(test_texts),
        "lookup": lookup_answers(texts, labels, test_texts),
        "tfidf": tfidf_predictions(train, test_texts, choice),
    }
    return predictions, {"tfidf_c": choice.c, "tfidf_max_ngram": choice.max_ngram}


def compare_with_baselines(
    actual: Sequence[str],
    predicted: Sequence[str],
    baselines: Mapping[str, Sequence[str]],
    names: Sequence[str],
    uncertainty: Uncertainty,
) -> dict[str, float]:
    """Return accuracy and macro F1 of each baseline, and the model's gain in accuracy over the last of them.

    Keys: `<baseline>_accuracy`, `<baseline>_macro_f1`, `gain_over_<baseline>`, all with intervals. The gain's
    interval is that of a paired comparison; if it contains zero, the test does not show a gain.
    """
    metrics: dict[str, float] = {}
    for baseline, guesses in baselines.items():
        scores = overall_scores(actual, guesses, names, uncertainty)
        metrics |= {f"{baseline}_{score}": value for score, value in scores.items()}
    strongest = list(baselines)[-1]
    gain = compare_correctness(
        correctness(actual, baselines[strongest]), correctness(actual, predicted), uncertainty.confidence
    )
    name = f"gain_over_{strongest}"
    return metrics | {name: gain.difference} | interval_ends(name, (gain.low, gain.high))


def beats_tfidf(metrics: Mapping[str, float]) -> bool:
    """Return whether the classifier is shown to beat word counts.

    Where test rows leaked from training, the leak-free rows decide. KeyError if `metrics` has no comparison.
    """
    return metrics[f"{_deciding(metrics)}gain_over_tfidf_low"] > 0


def _deciding(metrics: Mapping[str, float]) -> str:
    return "leak_free_" if "leak_free_gain_over_tfidf" in metrics else ""


def against_tfidf(metrics: Mapping[str, float]) -> str:
    """Return one sentence: whether the classifier beats word counts; empty if `metrics` has no comparison."""
    return _against(metrics, "tfidf", "word counts (TF-IDF)", _deciding(metrics))


def against_majority(metrics: Mapping[str, float], label: str) -> str:
    """Return one sentence: whether the classifier beats `label`, the most frequent of the test rows, as answer to all.

    Empty if `metrics` has no comparison.
    """
    return _against(metrics, "own_majority", f"always {label!r}")


def _against(metrics: Mapping[str, float], baseline: str, words: str, prefix: str = "") -> str:
    name = f"{prefix}gain_over_{baseline}"
    if name not in metrics:
        return ""
    gain, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
    if low > 0:
        verdict = "beats"
    elif high < 0:
        verdict = "loses to"
    else:
        verdict = "does not beat" if gain <= 0 else "is not shown to beat"
    where = " on the leak-free rows" if prefix else ""
    numbers = f"{gain:+.1%} of texts classified correctly [{low:+.1%}, {high:+.1%}]"
    return f"The classifier {verdict} {words}{where}: {numbers}."


def best_possible_accuracy(test: Sequence[LabelledRow]) -> dict[str, float]:
    """Return the accuracy that no classifier can exceed, if the source knows each text's probability of spam."""
    bounds = [max(row["p_spam"], 1 - row["p_spam"]) for row in test if "p_spam" in row]
    if not bounds:
        return {}
    return {"best_possible_accuracy": sum(bounds) / len(bounds)}


def correctness(actual: Sequence[str], predicted: Sequence[str]) -> list[bool]:
    """Return for each row whether its class was predicted."""
    return [a == p for a, p in zip(actual, predicted, strict=True)]


def prediction_rows(
    texts: Sequence[str],
    actual: Sequence[str],
    predicted: Sequence[str],
    names: Sequence[str],
    probabilities: np.ndarray,
) -> list[dict[str, Any]]:
    """Return one row per text: `text`, `label`, `predicted`, and probabilities to six digits.

    These are `p_<name>` of each class; of more than MAX_PROBABILITY_COLUMNS classes `probability`, that of the
    predicted one, and `label_probability`.
    """
    rows: list[dict[str, Any]] = []
    number = {name: place for place, name in enumerate(names)}
    for text, label, guess, row in zip(texts, actual, predicted, probabilities, strict=True):
        if len(names) <= MAX_PROBABILITY_COLUMNS:
            shown = {f"p_{name}": row[place] for name, place in number.items()}
        else:
            shown = {"probability": row[number[guess]], "label_probability": row[number[label]]}
        numbers = {column: round(float(value), 6) for column, value in shown.items()}
        rows.append({"text": text, "label": label, "predicted": guess} | numbers)
    return rows


def prediction_probabilities(row: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the probabilities of the predicted class and of the label, as one of `prediction_rows` has them."""
    if "probability" in row:
        return row["probability"], row["label_probability"]
    return row[f"p_{row['predicted']}"], row[f"p_{row['label']}"]


def most_confident_errors(predictions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the wrong ones of `prediction_rows`, most confident first, at most MAX_LISTED_ERRORS.

    Their keys: `text`, `label`, `predicted`, and the probabilities `p_predicted` and `p_label`.
    """
    errors = []
    for row in predictions:
        if row["label"] != row["predicted"]:
            p_predicted, p_label = prediction_probabilities(row)
            what = {key: row[key] for key in ("text", "label", "predicted")}
            errors.append({**what, "p_predicted": p_predicted, "p_label": p_label})
    return sorted(errors, key=lambda row: -row["p_predicted"])[:MAX_LISTED_ERRORS]


def models_table(metrics: Mapping[str, float], baselines: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return accuracy and macro F1 with their intervals, one row for the model and one per baseline."""
    keys = [f"{score}{end}" for score in ("accuracy", "macro_f1") for end in ("", "_low", "_high")]
    prefixes = {"model": ""} | {name: f"{name}_" for name in baselines}
    return [{"model": name} | {key: metrics[prefix + key] for key in keys} for name, prefix in prefixes.items()]


def classes_table(metrics: Mapping[str, float], labels: Sequence[str], rows: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return `class`, test `rows`, and F1, precision and recall with their intervals; the lowest F1 first."""
    keys = [f"{score}{end}" for score in ("f1", "precision", "recall") for end in ("", "_low", "_high")]
    table: list[dict[str, Any]] = [
        {"class": label, "rows": rows[label]} | {key: metrics[class_metric(label, key)] for key in keys}
        for label in labels
        if rows[label]  # of a class without test rows nothing is known
    ]
    return sorted(table, key=lambda row: (row["f1"], row["class"]))
