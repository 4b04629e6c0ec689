"""Windows over a file filled with 0..N-1, so a token is its own position."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.data.tokens import Tokens
from llmcore.data.windows import (
    IGNORE_INDEX,
    StrideWindows,
    WindowArray,
    Windows,
    concat_windows,
    cut_corpus,
    document_windows,
)

END = 10_000  # the end-of-text outside the corpus; inside, it too is numbered by its position

sizes = st.integers(1, 20)


def counting(*lengths: int) -> Tokens:
    """Return a corpus of documents of these lengths in tokens, in which each id is its position."""
    starts = np.cumsum([0, *(length + 1 for length in lengths[:-1])])
    return Tokens(np.arange(sum(lengths) + len(lengths) - 1), starts, None, END)


def rows(tokens: Tokens, windows: WindowArray) -> tuple[np.ndarray, np.ndarray]:
    return Windows(tokens, windows).rows(np.arange(len(windows)))


def targets_with_loss(tokens: Tokens, windows: WindowArray) -> list[int]:
    """Return all targets that count for the loss, sorted; rows are cut one by one, so none is padded."""
    cut = Windows(tokens, windows)
    return sorted(int(target) for row in range(len(cut)) for target in cut.rows(np.array([row]))[1].ravel())


@settings(deadline=None)
@given(total=st.integers(1, 80), length=sizes, stride=sizes)
def test_number_of_stride_windows_follows_the_formula(total: int, length: int, stride: int) -> None:
    windows = StrideWindows(0, total, length, stride)
    assert len(windows) == ((total - length - 1) // stride + 1 if total > length else 0)


@settings(deadline=None)
@given(begin=st.integers(0, 20), total=st.integers(1, 60), length=sizes, stride=sizes)
def test_stride_windows_lie_inside_their_part(begin: int, total: int, length: int, stride: int) -> None:
    windows = StrideWindows(begin, begin + total, length, stride)
    if len(windows):
        inputs, targets = rows(counting(begin + total + 5), windows)
        assert inputs.shape == targets.shape == (len(windows), length)
        assert (inputs[:, 0] == begin + stride * np.arange(len(windows))).all()
        assert (targets == inputs + 1).all()
        assert targets.max() < begin + total


def test_stride_windows_without_overlap_cover_all_but_the_end() -> None:
    assert targets_with_loss(counting(14), StrideWindows(0, 14, 4, 4)) == list(range(1, 13))


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=12), length=sizes, data=st.data())
def test_in_documents_mode_every_token_is_a_target_once(lengths: list[int], length: int, data: st.DataObject) -> None:
    tokens = counting(*lengths)
    total = len(tokens.ids)
    cut = data.draw(st.integers(0, total - 1))
    train = document_windows(tokens, 0, cut, length)
    val = document_windows(tokens, cut, total, length)
    assert targets_with_loss(tokens, train) == list(range(cut))
    assert targets_with_loss(tokens, val) == [*range(cut, total), END]


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=12), length=sizes)
def test_in_documents_mode_a_window_begins_before_a_document_or_continues_one(lengths: list[int], length: int) -> None:
    tokens = counting(*lengths)
    windows = document_windows(tokens, 0, len(tokens.ids), length)
    starts = set(tokens.starts.tolist())
    assert all(1 <= count <= length for _, count in windows.tolist())
    for (place, count), (after, _) in pairwise(windows.tolist()):
        assert after == place + count
        assert after + 1 in starts or count == length  # a document is cut only where a window is full


def test_documents_are_packed_whole_and_long_ones_cut() -> None:
    tokens = counting(3, 2, 9, 1)  # targets: 4, 3, 10, 2
    windows = document_windows(tokens, 0, len(tokens.ids), 4)
    assert windows.tolist() == [(-1, 4), (3, 3), (6, 4), (10, 4), (14, 4)]


def test_the_first_document_follows_an_end_of_text_that_is_not_in_the_file() -> None:
    inputs, targets = rows(counting(3), document_windows(counting(3), 0, 3, 8))
    assert inputs.tolist() == [[END, 0, 1, 2]]
    assert targets.tolist() == [[0, 1, 2, END]]


def test_targets_beyond_the_count_are_ignored() -> None:
    tokens = counting(5, 2)
    _, targets = rows(tokens, document_windows(tokens, 0, 8, 6))
    assert targets.tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, END, IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX]]


def test_rows_are_as_long_as_the_longest_window() -> None:
    tokens = counting(5, 2)
    windows = Windows(tokens, document_windows(tokens, 0, 8, 6))
    assert len(windows) == 2
    assert windows.rows(np.array([1]))[0].shape == (1, 3)
    assert windows.rows(np.array([1, 0, 1]))[0].shape == (3, 6)


def test_cutting_windows_changes_no_token_of_the_corpus() -> None:
    tokens = counting(5, 2)
    rows(tokens, document_windows(tokens, 0, 8, 6))
    assert tokens.ids[:].tolist() == list(range(8))


@pytest.mark.parametrize(
    ("lengths", "val_fraction", "cut"),
    [
        ((5145,), 0.1, 4630),  # one document: an exact share of it
        ((499, 399, 100), 0.1, 900),  # the last document is a tenth
        ((500, 300, 198), 0.1, 900),  # the nearest boundary is far off
        ((99,) * 10, 0.2, 800),
    ],
)
def test_the_corpus_is_cut_between_documents_if_a_boundary_is_near(
    lengths: tuple[int, ...], val_fraction: float, cut: int
) -> None:
    assert cut_corpus(counting(*lengths), val_fraction) == cut


def test_windows_of_several_spans_are_read_as_one_array() -> None:
    spans = [StrideWindows(0, 30, 5, 3), StrideWindows(30, 41, 5, 3), StrideWindows(41, 90, 5, 3)]
    stored = np.concatenate([span[np.arange(len(span))] for span in spans])
    whole = concat_windows(spans)
    order = np.random.default_rng(0).permutation(len(stored))
    assert len(whole) == len(stored)
    assert np.array_equal(whole[order], stored[order])
    for name in ("place", "count"):
        assert whole[name].tolist() == stored[name].tolist()


def test_each_source_of_a_mixture_is_cut_at_a_document_of_its_own() -> None:
    tokens = counting(*[9] * 30)  # documents begin at every tenth position
    assert [cut_corpus(tokens, 0.2, begin, end) for begin, end in ((0, 100), (100, 250), (250, 299))] == [80, 220, 290]
    assert cut_corpus(counting(99, 99), 0.95, 100, 199) == 104  # its first document must train, too
