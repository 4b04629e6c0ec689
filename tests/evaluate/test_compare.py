"""Two models on the same rows: McNemar, paired intervals, and how many rows would tell them apart."""

import numpy as np
import pytest
from scipy.stats import binomtest

from llmcore.evaluate.compare import POWER, compare_right, compare_scores, mcnemar, verdict


def rights(both: int, lost: int, won: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Rows that both, the first alone, the second alone, neither has right."""
    first = [True] * (both + lost) + [False] * (won + neither)
    second = [True] * both + [False] * lost + [True] * won + [False] * neither
    return first, second


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (0, 1), (2, 9), (9, 2), (5, 5), (150, 100)])
def test_mcnemar_is_the_exact_binomial_test(lost: int, won: int) -> None:
    expected = binomtest(won, lost + won, 0.5).pvalue if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(expected)


def test_the_books_two_accuracies_cannot_be_told_apart() -> None:
    """95.67% and 95.00% of 300 messages: two more right, of 14 that just one has right."""
    found = compare_right(*rights(279, 6, 8, 7), 0.95)
    assert (found.first, found.second) == (0.95, pytest.approx(0.9567, abs=1e-4))
    assert not found.differs
    assert found.low < 0 < found.high
    sentence = verdict(found, "A", "B", "accuracy")
    assert sentence.startswith("B and A cannot be told apart with this test set of 300; about ")
    assert found.rows_needed is not None
    assert f"about {found.rows_needed:,} items would be needed" in sentence


def test_a_clear_difference_is_better_one_way_and_worse_the_other() -> None:
    first, second = rights(200, 10, 60, 30)
    better, worse = compare_right(first, second, 0.95), compare_right(second, first, 0.95)
    assert better.difference == pytest.approx(50 / 300)
    assert verdict(better, "A", "B", "accuracy").startswith("B is better than A: accuracy 0.8667 against 0.7")
    assert verdict(worse, "A", "B", "accuracy").startswith("B is worse than A: ")
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low))


def test_equal_results_show_no_difference_and_an_interval_around_zero() -> None:
    found = compare_right(*rights(10, 0, 0, 5), 0.95)
    assert found.low < 0 < found.high
    assert (found.p_value, found.rows_needed) == (1.0, None)
    assert "no difference was seen" in verdict(found, "A", "B", "accuracy")


def test_the_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    generator, covered = np.random.default_rng(3), 0
    for _ in range(400):
        cells = generator.multinomial(200, [0.8, 0.04, 0.1, 0.06])
        found = compare_right(*rights(*cells.tolist()), 0.95)
        covered += found.low <= 0.06 <= found.high
    assert 0.92 <= covered / 400 <= 0.99


def test_as_many_rows_as_it_asks_for_show_the_difference_as_often_as_promised() -> None:
    found = compare_right(*rights(240, 12, 24, 24), 0.95)
    assert found.rows_needed is not None
    generator, shown = np.random.default_rng(4), 0
    for _ in range(300):
        cells = generator.multinomial(found.rows_needed, [0.8, 0.04, 0.08, 0.08])
        shown += compare_right(*rights(*cells.tolist()), 0.95).differs
    assert shown / 300 == pytest.approx(POWER, abs=0.08)


def test_scores_are_compared_in_pairs() -> None:
    """Rows differ far more than models: unpaired, this difference would drown."""
    hard = np.random.default_rng(5).normal(0, 10, 200)
    gain = np.random.default_rng(6).normal(0.5, 0.5, 200)
    found = compare_scores(hard, hard + gain, 0.95, np.random.default_rng(0))
    assert found.differs
    assert found.difference == pytest.approx(gain.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * gain.std() / 200**0.5, rel=0.1)
    assert found == compare_scores(hard, hard + gain, 0.95, np.random.default_rng(0))


def test_noise_alone_is_no_difference_of_scores() -> None:
    generator = np.random.default_rng(7)
    first = generator.normal(size=50)
    found = compare_scores(first, first + generator.normal(0, 1, 50) * 0.1 + 0.005, 0.95, np.random.default_rng(0))
    assert not found.differs
    assert found.rows_needed is not None
    assert found.rows_needed > 50
