"""Mixtures: shares by weight, exact in every epoch, and passes in which each window comes once."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.data.mixture import Mixture, epoch_quotas
from llmcore.data.order import Order

SOURCES = st.lists(st.tuples(st.integers(1, 40), st.floats(0.1, 10.0)), min_size=1, max_size=4)


def mixed(sizes: list[int], weights: list[float], seed: int = 1) -> tuple[Order, list[int]]:
    """Return the order of a mixture, and the windows of each source in an epoch."""
    quotas = epoch_quotas(sizes, weights)
    return Order(sum(sizes), 5, seed, draw=Mixture(sizes, quotas, seed)), quotas


def epoch(order: Order, number: int) -> list[int]:
    steps = range(number * order.steps_per_epoch, (number + 1) * order.steps_per_epoch)
    return np.concatenate([order.batch(step) for step in steps]).tolist()


def by_source(windows: list[int], sizes: list[int]) -> list[list[int]]:
    ends = np.cumsum(sizes)
    sources = np.searchsorted(ends, windows, side="right")
    return [[w for w, s in zip(windows, sources, strict=True) if s == number] for number in range(len(sizes))]


@settings(max_examples=30, deadline=None)
@given(SOURCES)
def test_an_epoch_has_each_source_by_its_weight_to_a_window(sources: list[tuple[int, float]]) -> None:
    sizes, weights = (list(column) for column in zip(*sources, strict=True))
    order, quotas = mixed(sizes, weights)
    assert sum(quotas) == sum(sizes)
    for number in range(3):
        drawn = by_source(epoch(order, number), sizes)
        assert [len(windows) for windows in drawn] == quotas
        for windows, weight in zip(drawn, weights, strict=True):
            assert abs(len(windows) - sum(sizes) * weight / sum(weights)) < 1


@settings(max_examples=30, deadline=None)
@given(SOURCES)
def test_at_the_end_of_every_epoch_windows_of_a_source_were_drawn_equally_often(
    sources: list[tuple[int, float]],
) -> None:
    """To one: a pass over the source may be under way. So each pass has each window once."""
    sizes, weights = (list(column) for column in zip(*sources, strict=True))
    order, quotas = mixed(sizes, weights)
    counts: Counter[int] = Counter()
    for number in range(4):
        counts.update(epoch(order, number))
        first = 0
        for size, quota in zip(sizes, quotas, strict=True):
            times = [counts[window] for window in range(first, first + size)]
            assert sum(times) == (number + 1) * quota
            assert max(times) - min(times) <= 1
            first += size


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_weights_equal_to_the_sizes_give_each_window_once_per_epoch(sizes: list[int]) -> None:
    order, quotas = mixed(sizes, [float(size) for size in sizes])
    assert quotas == sizes
    for number in range(2):
        assert sorted(epoch(order, number)) == list(range(sum(sizes)))


def test_passes_over_a_source_have_orders_of_their_own() -> None:
    mixture = Mixture([30, 10], [10, 30], seed=1)  # the second source is passed three times in an epoch
    drawn = mixture(np.arange(10, 40), 0).reshape(3, 10)
    assert all(sorted(windows) == list(range(30, 40)) for windows in drawn.tolist())
    assert len({tuple(windows) for windows in drawn.tolist()}) == 3


def test_sources_of_one_length_have_orders_of_their_own() -> None:
    drawn = Mixture([30, 30], [30, 30], seed=1)(np.arange(60), 0)
    assert (drawn[:30] + 30).tolist() != drawn[30:].tolist()


def test_a_batch_does_not_depend_on_earlier_calls() -> None:
    order, _ = mixed([40, 20, 7], [1.0, 5.0, 0.5])
    steps = np.random.default_rng(0).permutation(50).tolist()
    asked = {step: order.batch(step).tolist() for step in steps}
    again = [mixed([40, 20, 7], [1.0, 5.0, 0.5])[0].batch(step).tolist() for step in range(50)]
    assert all(asked[step] == again[step] for step in range(50))
    assert again != [mixed([40, 20, 7], [1.0, 5.0, 0.5], seed=2)[0].batch(step).tolist() for step in range(50)]


def test_the_number_of_windows_costs_nothing() -> None:
    order, _ = mixed([10**12, 10**9], [1.0, 1.0])
    batches = [order.batch(step).tolist() for step in (0, order.steps_per_epoch // 2, 3 * order.steps_per_epoch - 1)]
    small = sum(window >= 10**12 for batch in batches for window in batch)
    assert 0 < small < sum(map(len, batches))


def test_sources_alternate_within_an_epoch() -> None:
    order, _ = mixed([500, 500], [3.0, 1.0])
    windows = np.array(epoch(order, 0)) < 500
    assert all(60 < np.count_nonzero(part) < 90 for part in np.split(windows, 10))


def test_quotas_are_exact_where_floats_would_not_be() -> None:
    assert epoch_quotas([3, 3, 4], [0.1, 0.1, 0.1]) == [4, 3, 3]
    assert epoch_quotas([10**15, 1], [10**15, 1]) == [10**15, 1]
    assert epoch_quotas([5, 5], [1e9, 1.0]) == [10, 0]
