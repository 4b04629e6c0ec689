"""Scores equal scikit-learn's on random cases, and published numbers where there are some."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from llmcore.evaluate import scores

NAMES = ["ham", "spam", "other"]
rows = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1, max_size=40)
scored = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.5001, 1.0])), min_size=2, max_size=40)


@pytest.mark.parametrize(("successes", "low", "high"), [(287, 0.927, 0.975), (285, 0.919, 0.969), (295, 0.962, 0.993)])
def test_wilson_gives_the_published_intervals_of_300_messages(successes, low, high):
    assert scores.wilson(successes, 300, 0.95) == pytest.approx((low, high), abs=5e-4)


def test_wilson_stays_inside_zero_and_one_and_knows_nothing_without_rows():
    assert scores.wilson(0, 10, 0.95)[0] == 0.0
    assert scores.wilson(10, 10, 0.95)[1] == 1.0
    assert scores.wilson(0, 0, 0.95) == (0.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_classification_metrics_equal_scikit_learns(pairs):
    actual, predicted = [a for a, _ in pairs], [p for _, p in pairs]
    ours = scores.classification_metrics(actual, predicted, NAMES)
    assert ours["accuracy"] == pytest.approx(reference.accuracy_score(actual, predicted))
    assert ours["macro_f1"] == pytest.approx(reference.f1_score(actual, predicted, average="macro"))
    for key in ("precision", "recall", "f1"):
        score = getattr(reference, f"{key}_score")
        wanted = list(score(actual, predicted, labels=NAMES, average=None, zero_division=0))
        assert [ours[f"{key}_{name}"] for name in NAMES] == pytest.approx(wanted)
    wanted = reference.confusion_matrix(actual, predicted, labels=NAMES)
    assert (scores.confusion_counts(actual, predicted, NAMES) == wanted).all()


@settings(max_examples=60, deadline=None)
@given(scored.filter(lambda pairs: len({positive for positive, _ in pairs}) == 2))
def test_ranking_scores_equal_scikit_learns_also_with_ties(pairs):
    positive, values = [p for p, _ in pairs], [v for _, v in pairs]
    assert scores.roc_auc(positive, values) == pytest.approx(reference.roc_auc_score(positive, values))
    wanted = reference.average_precision_score(positive, values)
    assert scores.average_precision(positive, values) == pytest.approx(wanted)


def test_ranking_scores_of_one_class_are_not_a_number():
    assert np.isnan(scores.roc_auc([True, True], [0.1, 0.2]))
    assert np.isnan(scores.average_precision([False, False], [0.1, 0.2]))


def intervals(counts: np.ndarray, seed: int = 0) -> dict[str, float]:
    return scores.classification_intervals(counts, ["ham", "spam"], 0.95, np.random.default_rng(seed))


def test_intervals_of_f1_are_those_of_drawn_rows():
    counts = np.array([[80, 5], [10, 25]])
    found = intervals(counts)
    assert found == intervals(counts)
    assert found != intervals(counts, seed=1)
    actual = np.repeat([0, 0, 1, 1], counts.reshape(-1))
    predicted = np.repeat([0, 1, 0, 1], counts.reshape(-1))
    generator, drawn = np.random.default_rng(1), []
    for _ in range(500):
        index = generator.integers(0, len(actual), len(actual))
        one = [reference.f1_score(actual[index], predicted[index], average=how) for how in ("macro", "binary")]
        drawn.append(one)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    assert (found["macro_f1_low"], found["macro_f1_high"]) == pytest.approx((low[0], high[0]), abs=0.02)
    assert (found["f1_spam_low"], found["f1_spam_high"]) == pytest.approx((low[1], high[1]), abs=0.02)


def test_shares_of_rows_have_wilsons_interval():
    found = intervals(np.array([[80, 5], [10, 25]]))
    wanted = {"accuracy": (105, 120), "precision_spam": (25, 30), "recall_spam": (25, 35), "recall_ham": (80, 85)}
    for key, (hits, cases) in wanted.items():
        assert (found[f"{key}_low"], found[f"{key}_high"]) == scores.wilson(hits, cases, 0.95)


def test_each_metric_lies_in_its_interval_and_has_one():
    actual, predicted = ["ham"] * 9 + ["spam"] * 7 + ["other"], ["ham", "spam"] * 8 + ["other"]
    counts = scores.confusion_counts(actual, predicted, NAMES)
    found = scores.classification_intervals(counts, NAMES, 0.95, np.random.default_rng(0))
    metrics = scores.classification_metrics(actual, predicted, NAMES)
    assert {key.rpartition("_")[0] for key in found} == metrics.keys() - {"rows"}
    for key in metrics.keys() - {"rows"}:
        assert found[f"{key}_low"] <= metrics[key] <= found[f"{key}_high"]


def test_the_bootstrap_of_a_mean_has_the_width_of_theory():
    values = np.random.default_rng(0).normal(size=400)
    low, high = scores.mean_interval(values, 0.95, np.random.default_rng(1))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_samples_without_a_score_are_left_out_of_the_bootstrap():
    """A resample of rare positives may hold none, and then has no ranking."""
    positive, values = [True, False, False, False], [0.9, 0.1, 0.2, 0.3]
    truth, chances = np.array(positive), np.array(values)
    found = scores.bootstrap(4, lambda rows: scores.roc_auc(truth[rows], chances[rows]), 0.95, np.random.default_rng(0))
    assert found == (1.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "wanted", "exact", "f1"),
    [
        (" The red Ball. ", "red ball", True, 1.0),
        ("a blue ball", "the red ball", False, 0.5),
        ("", "", True, 1.0),
        ("", "ball", False, 0.0),
        ("ball ball", "ball", False, 2 / 3),
        ("Theo", "o", False, 0.0),
    ],
)
def test_answers_are_compared_without_case_punctuation_and_articles(answer, wanted, exact, f1):
    assert scores.exact_match(answer, wanted) is exact
    assert scores.token_f1(answer, wanted) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("answer", "wanted", "score"),
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
def test_rouge_l_is_the_papers(answer, wanted, score):
    assert scores.rouge_l(answer, wanted) == pytest.approx(score)


def test_the_commonest_answer_wins_and_ties_go_by_the_alphabet():
    assert scores.most_frequent(["b", "a", "b"]) == "b"
    assert scores.most_frequent(["b", "a"]) == "a"
    assert scores.most_frequent([]) == ""


def test_lookup_remembers_prompts_and_falls_back_to_the_commonest_answer():
    assert scores.lookup_answers(["q1", "q1", "q1", "q2"], ["x", "y", "y", "x"], ["q1", "q2", "q3"]) == ["y", "x", "x"]
