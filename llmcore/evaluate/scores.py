"""Scores with their uncertainty: pure functions from labels, predictions and answers to numbers."""

import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

RESAMPLES = 2000
ENDS = ("low", "high")  # of an interval


@dataclass(frozen=True)
class Uncertainty:
    """How wide intervals are, and what their resampling draws from."""

    confidence: float
    generator: np.random.Generator


def wilson(successes: int, total: int, confidence: float) -> tuple[float, float]:
    """Return the Wilson score interval of a share: `wilson(287, 300, 0.95) -> (0.927, 0.975)`.

    Unlike the textbook interval it stays inside [0, 1] and keeps its meaning near the ends; nothing
    observed gives (0, 1). E. B. Wilson, "Probable inference", JASA 22 (1927).
    """
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    return (centre - half if successes else 0.0), (centre + half if successes < total else 1.0)


def confusion_counts(actual: Sequence[str], predicted: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Return how often each class was taken for each: (K, K) integers, rows actual, columns predicted."""
    code = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for true, guess in zip(actual, predicted, strict=True):
        counts[code[true], code[guess]] += 1
    return counts


def classification_metrics(actual: Sequence[str], predicted: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Return accuracy, macro F1, and precision, recall, F1 of each class.

    Keys: `rows accuracy macro_f1 precision_<name> recall_<name> f1_<name>`. A ratio without cases (no row
    predicted as the class) is 0, as in scikit-learn with `zero_division=0`.
    """
    counts = confusion_counts(actual, predicted, names)
    hits, true, guessed = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    metrics = {
        "rows": int(counts.sum()),
        "accuracy": float(_ratio(hits.sum(), counts.sum())),
        "macro_f1": float(macro_f1(counts)),
    }
    ratios = {"precision": _ratio(hits, guessed), "recall": _ratio(hits, true), "f1": class_f1(counts)}
    return metrics | {
        f"{key}_{name}": float(values[i]) for key, values in ratios.items() for i, name in enumerate(names)
    }


def classification_intervals(
    counts: np.ndarray, names: Sequence[str], confidence: float, generator: np.random.Generator
) -> dict[str, float]:
    """Return `<metric>_low` and `<metric>_high` of each of the `classification_metrics`, from confusion counts.

    Shares of rows (accuracy, precision, recall) get Wilson's interval; F1, which is none, a bootstrap's.
    """
    hits, true, guessed = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    found = {"accuracy": wilson(int(hits.sum()), int(counts.sum()), confidence)}
    for i, name in enumerate(names):
        found[f"precision_{name}"] = wilson(int(hits[i]), int(guessed[i]), confidence)
        found[f"recall_{name}"] = wilson(int(hits[i]), int(true[i]), confidence)
    drawn = resampled_counts(counts, generator)
    found["macro_f1"] = percentiles(macro_f1(drawn), confidence)
    of_class = class_f1(drawn)  # (RESAMPLES, K)
    found |= {f"f1_{name}": percentiles(of_class[:, i], confidence) for i, name in enumerate(names)}
    return {f"{key}_{end}": bound for key, bounds in found.items() for end, bound in zip(ENDS, bounds, strict=True)}


def class_f1(counts: np.ndarray) -> np.ndarray:
    """Return the F1 of each class, from confusion counts (..., K, K) -> (..., K)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)  # (..., K)
    return _ratio(2 * hits, counts.sum(axis=-1) + counts.sum(axis=-2))


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 over the classes that occur, from confusion counts (..., K, K) -> (...)."""
    cases = counts.sum(axis=-1) + counts.sum(axis=-2)  # (..., K) actual + predicted
    return _ratio(class_f1(counts).sum(axis=-1), (cases > 0).sum(axis=-1))


def resampled_counts(counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the confusion counts of RESAMPLES bootstrap samples: (K, K) -> (RESAMPLES, K, K).

    Drawing rows with replacement draws the cells of the confusion matrix from a multinomial
    distribution, so rows need not be touched. Efron and Tibshirani, "An introduction to the bootstrap".
    """
    total = int(counts.sum())
    drawn = generator.multinomial(total, counts.reshape(-1) / total, size=RESAMPLES)
    return drawn.reshape(RESAMPLES, *counts.shape)


def bootstrap(
    rows: int, score: Callable[[np.ndarray], float], confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a score of rows, given as their indices.

    Samples for which the score is not a number (a class is absent) are left out.
    """
    values = np.array([score(generator.integers(0, rows, rows)) for _ in range(RESAMPLES)])
    return percentiles(values[~np.isnan(values)], confidence)


def mean_interval(
    values: Sequence[float] | np.ndarray, confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Return the bootstrap interval of a mean."""
    array = np.asarray(values, dtype=np.float64)
    return bootstrap(len(array), lambda rows: float(array[rows].mean()), confidence, generator)


def percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the values between which the middle `confidence` of all lies."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def roc_auc(positive: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """Return the chance that a positive row scores above a negative one, ties counting half; nan without both."""
    truth, values = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return float("nan")
    _, place, repeats = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(repeats) - (repeats - 1) / 2)[place]  # mean rank of equal scores
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(positive: Sequence[bool] | np.ndarray, scores: Sequence[float] | np.ndarray) -> float:
    """Return the area under the precision-recall curve as a step sum over thresholds; nan without positives."""
    truth, values = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    if not truth.any():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    truth, values = truth[order], values[order]
    ends = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # last row of each run of equal scores
    hits = np.cumsum(truth)[ends]
    recall = hits / truth.sum()
    return float(np.sum(np.diff(recall, prepend=0.0) * hits / (ends + 1)))


def normalise(answer: str) -> str:
    """Return an answer without case, ASCII punctuation, articles and extra spaces: `" The red Ball." -> "red ball"`.

    The rule of SQuAD's evaluation script (Rajpurkar et al. 2016).
    """
    text = answer.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(answer: str, wanted: str) -> bool:
    """Return whether two answers are equal once normalised."""
    return normalise(answer) == normalise(wanted)


def token_f1(answer: str, wanted: str) -> float:
    """Return the F1 of the normalised words that two answers share; two empty ones agree fully."""
    given, truth = normalise(answer).split(), normalise(wanted).split()
    if not given or not truth:
        return float(given == truth)
    shared = (Counter(given) & Counter(truth)).total()
    return 2 * shared / (len(given) + len(truth))


def rouge_l(answer: str, wanted: str) -> float:
    """Return ROUGE-L: the F1 of the longest run of words, gaps allowed, that two answers share in order.

    C.-Y. Lin, "ROUGE" (2004). Words are compared without case and punctuation, in any script.
    """
    from rapidfuzz.distance import LCSseq

    given, truth = (re.findall(r"\w+", text.casefold()) for text in (answer, wanted))
    if not given or not truth:
        return float(given == truth)
    return 2 * LCSseq.similarity(given, truth) / (len(given) + len(truth))


def most_frequent(answers: Sequence[str]) -> str:
    """Return the commonest answer, the alphabetically first of equally common ones; empty without answers."""
    counts = Counter(answers)
    return min(counts, key=lambda answer: (-counts[answer], answer), default="")


def lookup_answers(prompts: Sequence[str], answers: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Return the answers of pure memory: the commonest to the very same prompt, else the commonest of all."""
    known: dict[str, list[str]] = defaultdict(list)
    for prompt, answer in zip(prompts, answers, strict=True):
        known[prompt].append(answer)
    otherwise = most_frequent(answers)
    return [most_frequent(known[prompt]) if prompt in known else otherwise for prompt in asked]


def _ratio(numerator: np.ndarray | float, denominator: np.ndarray | float) -> np.ndarray:
    """Divide, giving 0 where there are no cases."""
    numerator, denominator = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
