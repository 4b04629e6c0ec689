"""A keyed permutation of range(size), computed on demand: each number once, and all orders equally likely."""

from collections import Counter
from math import factorial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from llmcore.base.seeds import derive
from llmcore.data.permutation import permute, split_mix64

LARGE = 10_000_000


def whole(size: int, key: int) -> list[int]:
    return permute(np.arange(size), size, key).tolist()


def assert_uniform(counts: np.ndarray) -> None:
    """The keys are fixed, so the result is too: a test that passes once passes always."""
    assert chisquare(counts, axis=None).pvalue > 0.001


@settings(deadline=None)
@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
@example(size=1, key=0)
@example(size=2, key=2**64 - 1)
def test_each_number_comes_once(size: int, key: int) -> None:
    assert sorted(whole(size, key)) == list(range(size))


@settings(deadline=None)
@given(size=st.integers(1, 300), key=st.integers(0, 2**63 - 1), data=st.data())
def test_an_element_depends_on_its_position_alone(size: int, key: int, data: st.DataObject) -> None:
    positions = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=20)), np.int64)
    assert permute(positions, size, key).tolist() == np.array(whole(size, key))[positions].tolist()


@settings(deadline=None)
@given(size=st.integers(2**31, 2**62), key=st.integers(0, 2**64 - 1))
def test_large_sizes_stay_in_range_and_do_not_collide(size: int, key: int) -> None:
    ends = permute(np.array([0, 1, size // 2, size - 2, size - 1]), size, key)
    assert len(set(ends.tolist())) == 5
    assert ends.min() >= 0
    assert ends.max() < size


def test_the_numbers_are_the_same_on_every_machine() -> None:
    assert whole(10, 1) == [1, 4, 0, 9, 6, 7, 8, 3, 5, 2]
    large = permute(np.array([0, 1, 2**61]), 2**62 - 1, 2**64 - 1)
    assert large.tolist() == [4278289477902948881, 2373978021794965069, 3116236834050978738]


def test_split_mix64_gives_its_published_numbers() -> None:
    """The first outputs for the seed 1234567, as rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64 lists them."""
    outputs = split_mix64(np.arange(1, 6, dtype=np.uint64), 1234567).tolist()
    assert outputs == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_permutations_are_equally_frequent(size: int) -> None:
    counts = Counter(tuple(whole(size, derive(size, number))) for number in range(20 * factorial(size)))
    assert_uniform(np.array([*counts.values(), *[0] * (factorial(size) - len(counts))]))


@pytest.mark.parametrize("size", [7, 16, 17, 100])
def test_every_element_is_equally_frequent_at_every_position(size: int) -> None:
    counts = np.zeros((size, size), np.int64)
    for number in range(20 * size):
        counts[np.arange(size), whole(size, derive(size, number))] += 1
    assert_uniform(counts)


@pytest.mark.parametrize("key", range(5))
def test_neighbours_and_keys_are_independent(key: int) -> None:
    """Neither two neighbours of ten million elements nor the elements of two keys at a position are related."""
    bins, positions = 20, np.arange(100_000)
    ours = permute(positions, LARGE, key) * bins // LARGE
    next_key = permute(positions, LARGE, key + 1) * bins // LARGE
    assert_uniform(np.bincount(ours[:-1] * bins + ours[1:], minlength=bins**2))
    assert_uniform(np.bincount(ours * bins + next_key, minlength=bins**2))
