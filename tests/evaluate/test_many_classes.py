"""Evaluation with hundreds of classes: bounded memory, and the same numbers as for few."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmcore.evaluate import baselines, scores
from llmcore.evaluate.classification import MAX_PROBABILITY_COLUMNS, evaluate_classifier, prediction_rows

MAX_PEAK_BYTES = 150 << 20  # the resampled matrices of 700 classes alone would be 8 GB
few = st.integers(1, 6).flatmap(lambda k: arrays(np.int64, (k, k), elements=st.sampled_from([0, 0, 1, 2, 7])))


def rows_of(n_classes: int, per_class: int, seed: int) -> list[Any]:
    """Return rows whose first word names the class."""
    generator = np.random.default_rng(seed)
    return [
        {"text": " ".join([f"w{number}", *map(str, generator.integers(0, 3000, 4))]), "label": f"class {number}"}
        for number in range(n_classes)
        for _ in range(per_class)
    ]


@settings(max_examples=60, deadline=None)
@given(few.filter(lambda counts: counts.sum() > 0), st.sampled_from([1, 7, 3999, 10**9]))
def test_the_draws_are_those_of_the_whole_matrix(counts: np.ndarray, held: int) -> None:
    """Leaving out cells that are zero, and drawing in parts, changes no number."""
    drawn = np.random.default_rng(0).multinomial(counts.sum(), counts.reshape(-1) / counts.sum(), scores.RESAMPLES)
    whole = drawn.reshape(-1, *counts.shape)
    expected = scores.f1_scores(
        np.ascontiguousarray(np.diagonal(whole, axis1=1, axis2=2)), whole.sum(axis=1) + whole.sum(axis=2)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "MAX_DRAWN_COUNTS", held * 5)
        f1, macro_f1 = scores._resampled_f1(counts, np.random.default_rng(0))
    assert np.array_equal(f1, expected[0])
    assert np.array_equal(macro_f1, expected[1])


@pytest.mark.exhaustive
def test_700_classes_are_evaluated_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "REGULARISATIONS", (10.0,))  # six take six times as long and no more memory
    train, val, test = (rows_of(700, 2, seed) for seed in (1, 2, 3))
    names = sorted({row["label"] for row in test})
    probabilities = np.random.default_rng(0).random((len(test), 700), dtype=np.float32)
    tracemalloc.start()
    try:
        results = evaluate_classifier(
            train,
            [(train, val)],
            test,
            names,
            probabilities,
            str.casefold,
            scores.Uncertainty(0.95, np.random.default_rng(0)),
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MAX_PEAK_BYTES
    assert len(results.metrics) < 50
    assert sorted(row["class"] for row in results.classes) == names
    assert results.metrics["tfidf_accuracy"] > 0.98


@pytest.mark.parametrize("n_classes", [2, MAX_PROBABILITY_COLUMNS, MAX_PROBABILITY_COLUMNS + 1, 700])
def test_a_prediction_has_bounded_columns(n_classes: int) -> None:
    names = ["label", "predicted", *(f"class {number}" for number in range(n_classes - 2))]
    probabilities = np.full((1, n_classes), 0.25)
    probabilities[0, 1] = 0.75
    [row] = prediction_rows(["text"], ["label"], ["predicted"], names, probabilities)
    assert len(row) <= 3 + MAX_PROBABILITY_COLUMNS
    if n_classes <= MAX_PROBABILITY_COLUMNS:
        assert (row["p_predicted"], row["p_label"]) == (0.75, 0.25)
    else:
        assert (row["probability"], row["label_probability"]) == (0.75, 0.25)
