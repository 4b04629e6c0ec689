"""Which windows train and which validate, and what is known of the validation documents."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.base.errors import UserError
from llmcore.data.samples import Samples, choose_samples, coverage, read_samples, validation_documents, write_samples
from llmcore.data.tokens import Tokens, join_documents
from llmcore.data.windows import cut_corpus, stride_windows

END = 9


def corpus(*lengths: int, nats: list[float] | None = None) -> Tokens:
    tokens = join_documents([[number % END] * length for number, length in enumerate(lengths)], END)
    return Tokens(tokens.ids, tokens.starts, None if nats is None else np.array(nats), END)


def test_the_verdict_gives_the_books_tokens() -> None:
    """Book, chapter 5: 5,145 tokens, 9 batches of 2 windows to train and 1 to validate."""
    samples = choose_samples(corpus(5145), window_tokens=256, stride_tokens=256, starts="stride", val_fraction=0.1)
    assert (int(samples.train["count"].sum()), int(samples.val["count"].sum())) == (4608, 512)
    assert (len(samples.train), len(samples.val)) == (18, 2)
    assert samples.floor_nats is None


def test_validation_windows_do_not_overlap_whatever_the_stride() -> None:
    samples = choose_samples(corpus(100), window_tokens=5, stride_tokens=2, starts="stride", val_fraction=0.4)
    assert samples.train["place"].tolist() == list(range(0, 55, 2))
    assert samples.val["place"].tolist() == list(range(60, 95, 5))


def test_the_floor_is_the_sum_over_the_validation_documents() -> None:
    tokens = corpus(19, 29, 5, 4, nats=[7.0, 8.0, 1.5, 2.0])
    samples = choose_samples(tokens, window_tokens=8, stride_tokens=8, starts="documents", val_fraction=0.18)
    assert samples.val_position == 50
    assert samples.floor_nats == 3.5


@pytest.mark.parametrize("starts", ["documents", "stride"])
def test_there_is_no_floor_where_it_is_not_known(starts: str) -> None:
    """The windows must be exactly the documents whose probability is known."""
    unknown = corpus(19, 29, 5, 4)
    cut_inside = corpus(10, 100, nats=[3.0, 4.0])
    for tokens in (unknown, cut_inside):
        samples = choose_samples(tokens, window_tokens=4, stride_tokens=4, starts=starts, val_fraction=0.2)
        assert samples.floor_nats is None
    by_stride = corpus(19, 29, 5, 4, nats=[7.0, 8.0, 1.5, 2.0])
    samples = choose_samples(by_stride, window_tokens=4, stride_tokens=4, starts="stride", val_fraction=0.18)
    assert samples.floor_nats is None


@pytest.mark.parametrize("starts", ["documents", "stride"])
def test_a_corpus_too_short_says_how_many_tokens_it_has(starts: str) -> None:
    with pytest.raises(UserError, match=r"sample.window_tokens .*\(8 tokens, .*\), got 8; lower it") as caught:
        choose_samples(corpus(8), window_tokens=8, stride_tokens=8, starts=starts, val_fraction=0.5)
    assert "\n" not in str(caught.value)


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=20), val_fraction=st.floats(0.05, 0.95))
def test_validation_documents_are_the_tail_of_the_corpus(lengths: list[int], val_fraction: float) -> None:
    tokens = corpus(*lengths)
    cut = cut_corpus(tokens, val_fraction)
    none = np.empty(0)
    documents = validation_documents(tokens, Samples(none, none, 1, cut, None))
    assert join_documents(documents, END).ids.tolist() == tokens.ids[cut:].tolist()
    assert all(END not in document for document in documents)


def test_coverage_is_the_share_of_tokens_that_are_targets() -> None:
    tokens = corpus(20)
    assert coverage(tokens, stride_windows(0, 20, 4, 4), 0, 20) == 16 / 20
    assert coverage(tokens, stride_windows(0, 20, 4, 8), 0, 20) == 8 / 20
    whole = choose_samples(corpus(9, 9), window_tokens=4, stride_tokens=4, starts="documents", val_fraction=0.5)
    assert coverage(corpus(9, 9), whole.train, 0, 10) == 1.0
    assert coverage(corpus(9, 9), whole.val, 10, 19) == 1.0


def test_samples_are_read_as_written(tmp_path: Path) -> None:
    tokens = corpus(19, 29, 5, 4, nats=[7.0, 8.0, 1.5, 2.0])
    written = choose_samples(tokens, window_tokens=8, stride_tokens=8, starts="documents", val_fraction=0.18)
    write_samples(tmp_path / "samples", written)
    read = read_samples(tmp_path / "samples")
    assert np.array_equal(read.train, written.train)
    assert np.array_equal(read.val, written.val)
    assert (read.window_tokens, read.val_position, read.floor_nats) == (8, 50, 3.5)


def test_a_missing_samples_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; run `dvc repro`"):
        read_samples(tmp_path / "samples")
