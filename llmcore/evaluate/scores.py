"""Scores and their confidence intervals: pure functions from labels, predictions and answers to numbers.

scikit-learn and SciPy are imported inside the functions: importing this module must stay cheap.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Uncertainty:
    """The confidence level of the intervals (0.95: 95%), and the generator that resampling draws from."""

    confidence: float
    generator: np.random.Generator


def wilson_interval(successes: int, total: int, confidence: float) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion: `wilson_interval(287, 300, 0.95) -> (0.927, 0.975)`.

    Unlike the normal approximation it stays inside [0, 1] and is valid near the ends. Without
    observations it is (0, 1). E. B. Wilson, "Probable inference", JASA 22 (1927).
    """
    from scipy.stats import binomtest

    if total == 0:
        return 0.0, 1.0
    low, high = binomtest(int(successes), int(total)).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def confusion_counts(actual: Sequence[str], predicted: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Return the confusion matrix: (K, K) integers, rows are actual classes, columns predicted ones.

    Classes are ordered as in `names`, which must contain every label.
    """
    from sklearn.metrics import confusion_matrix

    counts: np.ndarray = confusion_matrix(actual, predicted, labels=list(names))
    return counts


def classification_metrics(actual: Sequence[str], predicted: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Return accuracy, macro F1, and precision, recall and F1 of each class.

    Keys: `rows accuracy macro_f1 precision_<name> recall_<name> f1_<name>`. A ratio with denominator zero
    (precision of a class that is never predicted) is 0. Macro F1 is the mean over the classes that occur.
    """
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

    metrics = {
        "rows": len(actual),
        "accuracy": float(accuracy_score(actual, predicted)),
        "macro_f1": float(f1_score(actual, predicted, average="macro", zero_division=0)),
    }
    per_class = precision_recall_fscore_support(actual, predicted, labels=list(names), zero_division=0)
    for key, values in zip(("precision", "recall", "f1"), per_class, strict=False):  # the fourth is the support
        metrics |= {f"{key}_{name}": float(value) for name, value in zip(names, values, strict=True)}
    return metrics


def classification_intervals(
    counts: np.ndarray, names: Sequence[str], confidence: float, generator: np.random.Generator
) -> dict[str, float]:
    """Return `<metric>_low` and `<metric>_high` of each of the `classification_metrics`, from confusion counts.

    Accuracy, precision and recall are proportions and get Wilson's interval. F1 is not a proportion, so its
    interval is bootstrapped.
    """
    hits = np.diagonal(counts)
    n_actual = counts.sum(axis=1)
    n_predicted = counts.sum(axis=0)
    intervals = {"accuracy": wilson_interval(hits.sum(), counts.sum(), confidence)}
    for i, name in enumerate(names):
        intervals[f"precision_{name}"] = wilson_interval(hits[i], n_predicted[i], confidence)
        intervals[f"recall_{name}"] = wilson_interval(hits[i], n_actual[i], confidence)
    resampled = _resampled_counts(counts, generator)
    intervals["macro_f1"] = percentile_interval(_macro_f1(resampled), confidence)
    f1 = _class_f1(resampled)  # (RESAMPLES, K)
    for i, name in enumerate(names):
        intervals[f"f1_{name}"] = percentile_interval(f1[:, i], confidence)
    ends: dict[str, float] = {}
    for metric, interval in intervals.items():
        ends |= interval_ends(metric, interval)
    return ends


def interval_ends(metric: str, interval: tuple[float, float]) -> dict[str, float]:
    """Return an interval under the names that metrics use: `<metric>_low` and `<metric>_high`."""
    low, high = interval
    return {f"{metric}_low": low, f"{metric}_high": high}


def _resampled_counts(counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the confusion counts of RESAMPLES bootstrap samples: (K, K) -> (RESAMPLES, K, K).

    Rows drawn with replacement fill the cells by a multinomial distribution. Drawing the cells and
    vectorising F1 takes milliseconds; scikit-learn on the rows of each sample would take seconds.
    Efron and Tibshirani, "An introduction to the bootstrap" (1993).
    """
    total = int(counts.sum())
    drawn = generator.multinomial(total, counts.reshape(-1) / total, size=RESAMPLES)
    return drawn.reshape(RESAMPLES, *counts.shape)


def _class_f1(counts: np.ndarray) -> np.ndarray:
    """Return the F1 of each class, 0 for a class without rows: confusion counts (..., K, K) -> (..., K)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    cases = counts.sum(axis=-1) + counts.sum(axis=-2)  # actual + predicted; 0 only where hits are 0
    f1: np.ndarray = 2.0 * hits / np.maximum(cases, 1)
    return f1


def _macro_f1(counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 over the classes that occur: confusion counts (..., K, K) -> (...)."""
    occurs = (counts.sum(axis=-1) + counts.sum(axis=-2)) > 0
    mean: np.ndarray = _class_f1(counts).sum(axis=-1) / occurs.sum(axis=-1)
    return mean


def bootstrap_interval(
    rows: int, score: Callable[[np.ndarray], float], confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of `score`, a function of row indices drawn with replacement.

    Samples with an undefined score (NaN: a class is absent) are left out.
    """
    values = np.array([score(generator.integers(0, rows, rows)) for _ in range(RESAMPLES)])
    return percentile_interval(values[~np.isnan(values)], confidence)


def mean_interval(
    values: Sequence[float] | np.ndarray, confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Return the bootstrap interval of a mean."""
    array = np.asarray(values, dtype=np.float64)
    return bootstrap_interval(len(array), lambda rows: float(array[rows].mean()), confidence, generator)


def percentile_interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the two quantiles between which the central `confidence` of the values lies."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def ranking_metrics(positive: np.ndarray, scores: np.ndarray, uncertainty: Uncertainty) -> dict[str, float]:
    """Return `roc_auc` and `average_precision` with their bootstrap intervals.

    `positive` (rows,) is boolean and must contain both values; `scores` (rows,) are higher for positive rows.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    metrics: dict[str, float] = {}
    for metric, score, fast_score in (
        ("roc_auc", roc_auc_score, fast_roc_auc),
        ("average_precision", average_precision_score, fast_average_precision),
    ):

        def score_of_rows(
            rows: np.ndarray, fast_score: Callable[[np.ndarray, np.ndarray], float] = fast_score
        ) -> float:
            return fast_score(positive[rows], scores[rows])

        metrics[metric] = float(score(positive, scores))
        interval = bootstrap_interval(len(positive), score_of_rows, uncertainty.confidence, uncertainty.generator)
        metrics |= interval_ends(metric, interval)
    return metrics


def fast_roc_auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve; NaN unless both classes occur.

    For resamples only: 20 times faster than scikit-learn, which would take three seconds per 4,000 calls.
    """
    true_positives, false_positives = _counts_by_threshold(positive, scores)
    pairs = int(true_positives[-1]) * int(false_positives[-1])
    if pairs == 0:
        return float("nan")
    return float(np.trapezoid(true_positives, false_positives) / pairs)


def fast_average_precision(positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean of precision over recall, as a step sum; NaN without a positive row. For resamples only."""
    true_positives, false_positives = _counts_by_threshold(positive, scores)
    if true_positives[-1] == 0:
        return float("nan")
    precision = true_positives[1:] / (true_positives[1:] + false_positives[1:])
    return float(np.sum(np.diff(true_positives) * precision) / true_positives[-1])


def _counts_by_threshold(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return true and false positives of each distinct threshold, from none to all rows: (thresholds + 1,) each."""
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true_positives = np.cumsum(positive[order])[last_of_ties]
    false_positives = last_of_ties + 1 - true_positives
    return np.append(0, true_positives), np.append(0, false_positives)


def normalise_answer(answer: str) -> str:
    """Return an answer without case, ASCII punctuation, articles and extra spaces: `" The red Ball." -> "red ball"`.

    The rule of SQuAD's evaluation script (Rajpurkar et al. 2016).
    """
    text = answer.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(answer: str, expected: str) -> bool:
    """Return whether two answers are equal after normalisation."""
    return normalise_answer(answer) == normalise_answer(expected)


def token_f1(answer: str, expected: str) -> float:
    """Return the F1 of the normalised words that two answers share; 1 if both are empty."""
    answer_words = normalise_answer(answer).split()
    expected_words = normalise_answer(expected).split()
    if not answer_words or not expected_words:
        return float(answer_words == expected_words)
    shared = (Counter(answer_words) & Counter(expected_words)).total()
    return 2 * shared / (len(answer_words) + len(expected_words))


def rouge_l(answer: str, expected: str) -> float:
    """Return ROUGE-L: the F1 of the longest common subsequence of words; 1 if both answers have none.

    Case and punctuation are ignored, in any script. C.-Y. Lin, "ROUGE" (2004).
    """
    from rapidfuzz.distance import LCSseq

    answer_words = re.findall(r"\w+", answer.casefold())
    expected_words = re.findall(r"\w+", expected.casefold())
    if not answer_words or not expected_words:
        return float(answer_words == expected_words)
    return 2 * LCSseq.similarity(answer_words, expected_words) / (len(answer_words) + len(expected_words))
