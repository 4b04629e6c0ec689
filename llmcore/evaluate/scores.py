"""Scores and their confidence intervals: pure functions from labels, predictions and answers to numbers.

scikit-learn and SciPy are imported inside the functions: importing this module must stay cheap.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from llmcore.evaluate.metric_names import class_metric, interval_ends

RESAMPLES = 2000
MAX_DRAWN_COUNTS = 4_000_000  # held at a time, 32 MB; more are drawn in parts


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

    rows, columns = label_numbers(names, actual, predicted)
    counts: np.ndarray = confusion_matrix(rows, columns, labels=range(len(names)))
    return counts


def label_numbers(names: Sequence[str], *labels: Sequence[str]) -> list[np.ndarray]:
    """Return each list of labels as places in `names`; NumPy and scikit-learn take `"a"` and `"a\\0"` for equal."""
    number = {name: place for place, name in enumerate(names)}
    return [np.array([number[label] for label in of_rows], dtype=np.int64) for of_rows in labels]


def classification_metrics(actual: Sequence[str], predicted: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Return accuracy, macro F1, and precision, recall and F1 of each class that has rows.

    Keys: `rows accuracy macro_f1`, and `class_metric` of `precision`, `recall`, `f1`. A ratio with denominator
    zero (precision of a class that is never predicted) is 0. Macro F1 is the mean over the classes that occur.
    """
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

    expected, guesses = label_numbers(names, actual, predicted)
    metrics = {
        "rows": len(actual),
        "accuracy": float(accuracy_score(expected, guesses)),
        "macro_f1": float(f1_score(expected, guesses, average="macro", zero_division=0)),
    }
    present = np.unique(expected)
    per_class = precision_recall_fscore_support(expected, guesses, labels=present, zero_division=0)
    for key, values in zip(("precision", "recall", "f1"), per_class, strict=False):  # the fourth is the support
        metrics |= {class_metric(names[i], key): float(value) for i, value in zip(present, values, strict=True)}
    return metrics


def classification_intervals(
    counts: np.ndarray,
    names: Sequence[str],
    confidence: float,
    generator: np.random.Generator,
    *,
    per_class: bool = True,
) -> dict[str, float]:
    """Return `<metric>_low` and `<metric>_high` of each of the `classification_metrics`, from confusion counts.

    Accuracy, precision and recall are proportions and get Wilson's interval. F1 is not a proportion, so its
    interval is bootstrapped. Counts are (K, K); time and memory grow with the cells that are not zero.
    Without `per_class` only those of accuracy and macro F1.
    """
    hits = np.diagonal(counts)
    n_actual = counts.sum(axis=1)
    n_predicted = counts.sum(axis=0)
    intervals = {"accuracy": wilson_interval(hits.sum(), counts.sum(), confidence)}
    classes = [(i, name) for i, name in enumerate(names) if n_actual[i]] if per_class else []
    for i, name in classes:
        intervals[class_metric(name, "precision")] = wilson_interval(hits[i], n_predicted[i], confidence)
        intervals[class_metric(name, "recall")] = wilson_interval(hits[i], n_actual[i], confidence)
    f1, macro_f1 = _resampled_f1(counts, generator)
    intervals["macro_f1"] = percentile_interval(macro_f1, confidence)
    for i, name in classes:
        intervals[class_metric(name, "f1")] = percentile_interval(f1[:, i], confidence)
    ends: dict[str, float] = {}
    for metric, interval in intervals.items():
        ends |= interval_ends(metric, interval)
    return ends


def _resampled_f1(counts: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return F1 of each class, (RESAMPLES, K), and macro F1, (RESAMPLES,), of bootstrap samples of counts (K, K).

    Rows drawn with replacement fill the cells by a multinomial distribution. Drawing the cells and
    vectorising F1 takes milliseconds; scikit-learn on the rows of each sample would take seconds. Cells that
    are zero stay zero, so they are neither drawn nor held: at most one cell per row of the test is left.
    Efron and Tibshirani, "An introduction to the bootstrap" (1993).
    """
    from scipy.sparse import csr_array

    n_classes = len(counts)
    flat = counts.reshape(-1)
    cells = np.flatnonzero(flat)
    if cells[-1] < len(flat) - 1:
        cells = np.append(cells, len(flat) - 1)  # the last cell gets what is left, without a draw
    actual, predicted = np.divmod(cells, n_classes)
    shape = (n_classes, len(cells))
    ones = np.ones(len(cells), dtype=np.int64)
    order = np.arange(len(cells))
    cases_of = csr_array((ones, (actual, order)), shape) + csr_array((ones, (predicted, order)), shape)
    hits_of = csr_array(((actual == predicted).astype(np.int64), (actual, order)), shape)
    f1 = np.empty((RESAMPLES, n_classes))
    macro_f1 = np.empty(RESAMPLES)
    part_size = max(MAX_DRAWN_COUNTS // len(cells), 1)
    for begin in range(0, RESAMPLES, part_size):
        part = slice(begin, min(begin + part_size, RESAMPLES))
        total = int(flat.sum())
        drawn = generator.multinomial(total, flat[cells] / total, size=part.stop - part.start).T
        hits = np.ascontiguousarray((hits_of @ drawn).T)  # so that sums over classes are added in one order
        f1[part], macro_f1[part] = f1_scores(hits, np.ascontiguousarray((cases_of @ drawn).T))
    return f1, macro_f1


def f1_scores(hits: np.ndarray, cases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return F1 of each class, (..., K), and its mean over the classes that occur, (...).

    `hits` are the rows classified correctly, `cases` the actual plus the predicted ones of each class: (..., K).
    F1 of a class without cases is 0.
    """
    f1: np.ndarray = 2.0 * hits / np.maximum(cases, 1)
    macro_f1: np.ndarray = f1.sum(axis=-1) / (cases > 0).sum(axis=-1)
    return f1, macro_f1


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
