"""Scores against published numbers and scikit-learn, and intervals against theory."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from llmcore.evaluate import scores

NAMES = ["ham", "spam", "other"]
labels = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1, max_size=40)
ranked = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.5001, 1.0])), min_size=2, max_size=40)


@pytest.mark.parametrize(("successes", "low", "high"), [(287, 0.927, 0.975), (285, 0.919, 0.969), (295, 0.962, 0.993)])
def test_wilson_gives_the_published_intervals_of_300_messages(successes: int, low: float, high: float) -> None:
    assert scores.wilson_interval(successes, 300, 0.95) == pytest.approx((low, high), abs=5e-4)


def test_wilson_stays_inside_zero_and_one_and_is_everything_without_rows() -> None:
    assert scores.wilson_interval(0, 10, 0.95)[0] == 0.0
    assert scores.wilson_interval(10, 10, 0.95)[1] == 1.0
    assert scores.wilson_interval(0, 0, 0.95) == (0.0, 1.0)


def test_metrics_of_a_small_example_are_those_counted_by_hand() -> None:
    actual = ["ham", "ham", "ham", "spam", "spam"]
    predicted = ["ham", "ham", "spam", "spam", "ham"]
    assert scores.classification_metrics(actual, predicted, NAMES) == pytest.approx(
        {
            "rows": 5,
            "accuracy": 3 / 5,
            "macro_f1": (2 / 3 + 1 / 2) / 2,  # `other` never occurs: it does not count and has no metrics
            "class/ham/precision": 2 / 3,
            "class/spam/precision": 1 / 2,
            "class/ham/recall": 2 / 3,
            "class/spam/recall": 1 / 2,
            "class/ham/f1": 2 / 3,
            "class/spam/f1": 1 / 2,
        }
    )
    assert scores.confusion_counts(actual, predicted, NAMES).tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]


@settings(max_examples=60, deadline=None)
@given(labels)
def test_f1_from_confusion_counts_equals_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    actual, predicted = zip(*pairs, strict=True)
    counts = scores.confusion_counts(actual, predicted, NAMES)
    metrics = scores.classification_metrics(actual, predicted, NAMES)
    f1, macro_f1 = scores.f1_scores(np.diagonal(counts), counts.sum(axis=0) + counts.sum(axis=1))
    assert macro_f1 == pytest.approx(metrics["macro_f1"], abs=1e-12)
    assert f1 == pytest.approx([metrics.get(f"class/{name}/f1", 0.0) for name in NAMES], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(ranked.filter(lambda pairs: len({positive for positive, _ in pairs}) == 2))
def test_fast_ranking_scores_equal_scikit_learns_also_with_ties(pairs: list[tuple[bool, float]]) -> None:
    positive = np.array([p for p, _ in pairs])
    values = np.array([v for _, v in pairs])
    auc = reference.roc_auc_score(positive, values)
    precision = reference.average_precision_score(positive, values)
    assert scores.fast_roc_auc(positive, values) == pytest.approx(auc, abs=1e-12)
    assert scores.fast_average_precision(positive, values) == pytest.approx(precision, abs=1e-12)


def test_ranking_scores_of_a_single_class_are_undefined() -> None:
    values = np.array([0.1, 0.2])
    assert math.isnan(scores.fast_roc_auc(np.array([True, True]), values))
    assert math.isnan(scores.fast_roc_auc(np.array([False, False]), values))
    assert math.isnan(scores.fast_average_precision(np.array([False, False]), values))


def test_ranking_metrics_leave_out_samples_without_both_classes() -> None:
    """With one positive row of four, a third of the samples has none and no ranking."""
    positive = np.array([True, False, False, False])
    uncertainty = scores.Uncertainty(0.95, np.random.default_rng(0))
    found = scores.ranking_metrics(positive, np.array([0.9, 0.1, 0.2, 0.3]), uncertainty)
    assert found == dict.fromkeys(found, 1.0)
    assert list(found) == [f"{key}{end}" for key in ("roc_auc", "average_precision") for end in ("", "_low", "_high")]


def intervals(counts: np.ndarray, seed: int = 0) -> dict[str, float]:
    return scores.classification_intervals(counts, ["ham", "spam"], 0.95, np.random.default_rng(seed))


def test_intervals_of_f1_are_those_of_resampled_rows() -> None:
    counts = np.array([[80, 5], [10, 25]])
    found = intervals(counts)
    assert found == intervals(counts)
    assert found != intervals(counts, seed=1)
    actual = np.repeat([0, 0, 1, 1], counts.reshape(-1))
    predicted = np.repeat([0, 1, 0, 1], counts.reshape(-1))
    generator = np.random.default_rng(1)
    resampled = []
    for _ in range(500):
        rows = generator.integers(0, len(actual), len(actual))
        resampled.append([reference.f1_score(actual[rows], predicted[rows], average=a) for a in ("macro", "binary")])
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    assert (found["macro_f1_low"], found["macro_f1_high"]) == pytest.approx((low[0], high[0]), abs=0.02)
    assert (found["class/spam/f1_low"], found["class/spam/f1_high"]) == pytest.approx((low[1], high[1]), abs=0.02)


def test_accuracy_precision_and_recall_have_wilsons_interval() -> None:
    found = intervals(np.array([[80, 5], [10, 25]]))
    expected = {
        "accuracy": (105, 120),
        "class/spam/precision": (25, 30),
        "class/spam/recall": (25, 35),
        "class/ham/recall": (80, 85),
    }
    for key, (hits, cases) in expected.items():
        assert (found[f"{key}_low"], found[f"{key}_high"]) == scores.wilson_interval(hits, cases, 0.95)


def test_every_metric_has_an_interval_that_contains_it() -> None:
    actual = ["ham"] * 9 + ["spam"] * 7 + ["other"]
    predicted = ["ham", "spam"] * 8 + ["other"]
    counts = scores.confusion_counts(actual, predicted, NAMES)
    found = scores.classification_intervals(counts, NAMES, 0.95, np.random.default_rng(0))
    metrics = scores.classification_metrics(actual, predicted, NAMES)
    assert {key.rpartition("_")[0] for key in found} == metrics.keys() - {"rows"}
    for key in metrics.keys() - {"rows"}:
        assert found[f"{key}_low"] <= metrics[key] <= found[f"{key}_high"]


def test_the_bootstrap_interval_of_a_mean_has_the_width_of_theory() -> None:
    values = np.random.default_rng(0).normal(size=400)
    low, high = scores.mean_interval(values, 0.95, np.random.default_rng(1))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


@pytest.mark.parametrize(
    ("answer", "expected", "exact", "f1"),
    [
        (" The red Ball. ", "red ball", True, 1.0),
        ("a blue ball", "the red ball", False, 0.5),
        ("", "", True, 1.0),
        ("", "ball", False, 0.0),
        ("ball ball", "ball", False, 2 / 3),
        ("Theo", "o", False, 0.0),
    ],
)
def test_answers_are_compared_without_case_punctuation_and_articles(
    answer: str, expected: str, exact: bool, f1: float
) -> None:
    assert scores.exact_match(answer, expected) is exact
    assert scores.token_f1(answer, expected) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ("police kill the gunman", "police killed the gunman", 0.75),  # Lin 2004, 3.1
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("The Gunman: police killed!", "police killed the gunman", 0.5),
        ("a b", "a x b y", 2 * 2 / 6),
        ("\u043c\u044f\u0447 \u043a\u0440\u0430\u0441\u043d\u044b\u0439", "\u043c\u044f\u0447", 2 / 3),
        ("", "", 1.0),
        ("...", "ball", 0.0),
    ],
)
def test_rouge_l_equals_the_papers_examples(answer: str, expected: str, score: float) -> None:
    assert scores.rouge_l(answer, expected) == pytest.approx(score)
