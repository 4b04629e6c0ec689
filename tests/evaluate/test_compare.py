"""Comparison of two models on the same rows: McNemar's test, paired intervals, and how many rows are needed."""

import math

import numpy as np
import pytest

from llmcore.evaluate.compare import POWER, compare_correctness, compare_scores, mcnemar, verdict


def paired_correctness(both: int, lost: int, won: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Return correctness of two models on rows that both, only the first, only the second, or neither has right."""
    first = [True] * (both + lost) + [False] * (won + neither)
    second = [True] * both + [False] * lost + [True] * won + [False] * neither
    return first, second


def toss_p_value(lost: int, won: int) -> float:
    """Twice the probability of at most min(lost, won) heads in lost + won tosses, by adding up binomials."""
    tosses = lost + won
    tail = sum(math.comb(tosses, heads) for heads in range(min(lost, won) + 1))
    return min(1.0, 2 * tail / 2**tosses)


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (0, 1), (2, 9), (9, 2), (5, 5), (150, 100)])
def test_mcnemar_is_the_exact_test_of_a_fair_coin(lost: int, won: int) -> None:
    assert mcnemar(lost, won) == pytest.approx(toss_p_value(lost, won), rel=1e-12)


def test_the_books_two_accuracies_cannot_be_told_apart() -> None:
    """95.67% against 95.00% of 300 messages: 14 rows differ, eight in favour of one, six of the other."""
    found = compare_correctness(*paired_correctness(279, 6, 8, 7), 0.95)
    assert (found.first, found.second) == (0.95, pytest.approx(0.9567, abs=1e-4))
    assert not found.differs
    assert found.low < 0 < found.high
    sentence = verdict(found, "A", "B", "accuracy")
    assert sentence.startswith("B and A cannot be told apart with this test set of 300; about ")
    assert found.rows_needed is not None
    assert f"about {found.rows_needed:,} items would be needed" in sentence


def test_a_clear_difference_is_better_in_one_direction_and_worse_in_the_other() -> None:
    first, second = paired_correctness(200, 10, 60, 30)
    better, worse = compare_correctness(first, second, 0.95), compare_correctness(second, first, 0.95)
    assert better.difference == pytest.approx(50 / 300)
    assert verdict(better, "A", "B", "accuracy").startswith("B is better than A: accuracy 0.8667 against 0.7")
    assert verdict(worse, "A", "B", "accuracy").startswith("B is worse than A: ")
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low))


def test_equal_results_show_no_difference_and_an_interval_around_zero() -> None:
    found = compare_correctness(*paired_correctness(10, 0, 0, 5), 0.95)
    assert found.low < 0 < found.high
    assert (found.p_value, found.rows_needed) == (1.0, None)
    assert "no difference was seen" in verdict(found, "A", "B", "accuracy")


def test_the_interval_covers_the_true_difference_as_often_as_its_confidence() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        cells = generator.multinomial(200, [0.8, 0.04, 0.1, 0.06])
        found = compare_correctness(*paired_correctness(*cells.tolist()), 0.95)
        covered += found.low <= 0.06 <= found.high
    assert 0.92 <= covered / 400 <= 0.99


def test_the_needed_rows_show_the_difference_with_the_promised_power() -> None:
    found = compare_correctness(*paired_correctness(240, 12, 24, 24), 0.95)
    assert found.rows_needed is not None
    generator = np.random.default_rng(4)
    shown = 0
    for _ in range(300):
        cells = generator.multinomial(found.rows_needed, [0.8, 0.04, 0.08, 0.08])
        shown += compare_correctness(*paired_correctness(*cells.tolist()), 0.95).differs
    assert shown / 300 == pytest.approx(POWER, abs=0.08)


def test_scores_are_compared_row_by_row() -> None:
    """Rows differ far more than models: an unpaired comparison would not find this difference."""
    hard = np.random.default_rng(5).normal(0, 10, 200)
    gain = np.random.default_rng(6).normal(0.5, 0.5, 200)
    found = compare_scores(hard, hard + gain, 0.95, np.random.default_rng(0))
    assert found.differs
    assert found.difference == pytest.approx(gain.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * gain.std() / 200**0.5, rel=0.1)
    assert found == compare_scores(hard, hard + gain, 0.95, np.random.default_rng(0))


def test_noise_alone_is_not_a_difference_of_scores() -> None:
    generator = np.random.default_rng(7)
    first = generator.normal(size=50)
    found = compare_scores(first, first + generator.normal(0, 1, 50) * 0.1 + 0.005, 0.95, np.random.default_rng(0))
    assert not found.differs
    assert found.rows_needed is not None
    assert found.rows_needed > 50
