"""The order of rows is a function of (seed, step)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from llmcore.data.order import Order

LENGTHS = np.random.default_rng(0).integers(1, 100, 1000)


def epoch(order: Order, number: int) -> list[list[int]]:
    steps = range(number * order.steps_per_epoch, (number + 1) * order.steps_per_epoch)
    return [order.batch(step).tolist() for step in steps]


@settings(deadline=None)
@given(rows=st.integers(1, 200), batch_size=st.integers(1, 9), by_length=st.booleans(), number=st.integers(0, 3))
def test_each_row_comes_once_per_epoch(rows: int, batch_size: int, by_length: bool, number: int) -> None:
    batches = epoch(Order(rows, batch_size, seed=1, lengths=LENGTHS[:rows] if by_length else None), number)
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    assert sorted({len(batch) for batch in batches} | {batch_size})[-1] == batch_size
    assert len(batches) == -(-rows // batch_size)


@pytest.mark.parametrize("lengths", [None, LENGTHS[:100]])
def test_epochs_and_seeds_differ_and_repeat(lengths: np.ndarray | None) -> None:
    def order(seed: int) -> Order:
        return Order(100, 8, seed, lengths)

    assert epoch(order(1), 0) != epoch(order(1), 1)
    assert epoch(order(1), 1) == epoch(order(1), 1)
    assert epoch(order(1), 0) != epoch(order(2), 0)


def test_a_batch_does_not_depend_on_earlier_calls() -> None:
    """A resumed or longer training gets the rows of an uninterrupted one."""
    order = Order(100, 8, seed=1, lengths=LENGTHS[:100])
    steps = np.random.default_rng(0).permutation(50).tolist()
    asked = {step: order.batch(step).tolist() for step in steps}
    assert all(asked[step] == Order(100, 8, 1, LENGTHS[:100]).batch(step).tolist() for step in range(50))


@pytest.mark.parametrize("lengths", [None, np.broadcast_to(np.int32(256), 10**12)])
def test_the_number_of_rows_costs_nothing(lengths: np.ndarray | None) -> None:
    """An array with an element per row would take terabytes."""
    order = Order(10**12, 8, seed=1, lengths=lengths)
    batches = [order.batch(step).tolist() for step in (0, order.steps_per_epoch // 2, 2 * order.steps_per_epoch - 1)]
    assert len({row for batch in batches for row in batch}) == 3 * 8


@pytest.mark.parametrize("lengths", [None, LENGTHS[:20]])
def test_every_row_is_equally_frequent_at_every_step(lengths: np.ndarray | None) -> None:
    order = Order(20, 1, seed=1, lengths=lengths)
    counts = np.zeros((20, 20), np.int64)
    for number in range(1000):
        counts[np.arange(20), np.concatenate(epoch(order, number))] += 1
    assert chisquare(counts, axis=None).pvalue > 0.001


def padding(batches: list[list[int]]) -> float:
    """Return the fraction of a padded epoch that is padding."""
    padded = sum(len(batch) * int(LENGTHS[batch].max()) for batch in batches)
    return 1 - int(LENGTHS.sum()) / padded


def test_rows_of_similar_length_share_a_batch() -> None:
    assert padding(epoch(Order(1000, 8, seed=1), 0)) > 0.35
    by_length = Order(1000, 8, seed=1, lengths=LENGTHS)
    assert padding(epoch(by_length, 0)) < 0.06
    assert by_length.padding_share(8) == padding(epoch(by_length, 0))
    assert by_length.padding_share(1) == 0


def test_batches_of_an_epoch_are_not_sorted_by_length() -> None:
    """Learning from short rows first and long ones last would be another training."""
    means = [LENGTHS[batch].mean() for batch in epoch(Order(1000, 8, seed=1, lengths=LENGTHS), 0)]
    assert 0.35 < np.mean(np.diff(means) > 0) < 0.65
