"""The windows for training and validation, the floor, and the validation texts."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcore.base.errors import UserError
from llmcore.base.files import write_jsonl
from llmcore.data.samples import Samples, choose_samples, coverage, read_samples, validation_texts, write_samples
from llmcore.data.tokens import Tokens, join_documents
from llmcore.data.windows import StrideWindows
from llmcore.tokenizer.bpe import BytePairTokenizer

END = 9


def corpus(*lengths: int, nats: list[float] | None = None) -> Tokens:
    tokens = join_documents([[number % END] * length for number, length in enumerate(lengths)], END)
    return Tokens(tokens.ids, tokens.starts, None if nats is None else np.array(nats), END)


def test_the_verdict_gives_the_books_tokens() -> None:
    """Book, chapter 5: 5,145 tokens, 9 batches of 2 windows to train and 1 to validate."""
    samples = choose_samples(
        corpus(5145), window_tokens=256, stride_tokens=256, window_start="stride", val_fraction=0.1
    )
    assert (int(samples.train["count"].sum()), int(samples.val["count"].sum())) == (4608, 512)
    assert (len(samples.train), len(samples.val)) == (18, 2)
    assert samples.floor_nats is None


def test_validation_windows_do_not_overlap_whatever_the_stride() -> None:
    samples = choose_samples(corpus(100), window_tokens=5, stride_tokens=2, window_start="stride", val_fraction=0.4)
    assert samples.train["place"].tolist() == list(range(0, 55, 2))
    assert samples.val["place"].tolist() == list(range(60, 95, 5))


def test_the_floor_is_the_sum_over_the_validation_documents() -> None:
    tokens = corpus(19, 29, 5, 4, nats=[7.0, 8.0, 1.5, 2.0])
    samples = choose_samples(tokens, window_tokens=8, stride_tokens=8, window_start="documents", val_fraction=0.18)
    assert samples.val_positions == (50,)
    assert samples.floor_nats == 3.5


@pytest.mark.parametrize("window_start", ["documents", "stride"])
def test_there_is_no_floor_unless_the_windows_are_documents_of_known_probability(window_start: str) -> None:
    unknown = corpus(19, 29, 5, 4)
    cut_inside = corpus(10, 100, nats=[3.0, 4.0])
    for tokens in (unknown, cut_inside):
        samples = choose_samples(tokens, window_tokens=4, stride_tokens=4, window_start=window_start, val_fraction=0.2)
        assert samples.floor_nats is None
    by_stride = corpus(19, 29, 5, 4, nats=[7.0, 8.0, 1.5, 2.0])
    samples = choose_samples(by_stride, window_tokens=4, stride_tokens=4, window_start="stride", val_fraction=0.18)
    assert samples.floor_nats is None


@pytest.mark.parametrize("window_start", ["documents", "stride"])
def test_a_corpus_too_short_is_refused_with_its_number_of_tokens(window_start: str) -> None:
    with pytest.raises(UserError, match=r"sample.window_tokens .*\(8 tokens, .*\), got 8; lower it") as caught:
        choose_samples(corpus(8), window_tokens=8, stride_tokens=8, window_start=window_start, val_fraction=0.5)
    assert "\n" not in str(caught.value)


any_text = st.text(st.sampled_from("the ball é日🐈 \n1"), min_size=1, max_size=30)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(any_text, min_size=1, max_size=8), data=st.data())
def test_validation_texts_are_the_decoded_ids_of_the_validation_part(
    texts: list[str], data: st.DataObject, tokenizer: BytePairTokenizer, tmp_path: Path
) -> None:
    """The cut may be at the start of a document, inside one, inside a character, or at an end-of-text."""
    write_jsonl(tmp_path / "documents.jsonl", [{"text": text} for text in texts])
    tokens = join_documents([tokenizer.encode(text) for text in texts], tokenizer.end_of_text)
    cut = data.draw(st.integers(0, len(tokens.ids) - 1))
    parts: list[list[int]] = [[]]
    for token in tokens.ids[cut:].tolist():
        if token == tokenizer.end_of_text:
            parts.append([])
        else:
            parts[-1].append(token)
    found = validation_texts(tmp_path, tokens, samples_from(cut), tokenizer.token_bytes)
    assert found == [tokenizer.decode(ids) for ids in parts]


def samples_from(val_position: int) -> Samples:
    none = np.empty(0)
    return Samples(none, none, 1, (val_position,), None)


@pytest.mark.parametrize("count", [1, 3])
def test_a_raw_text_folder_of_other_documents_is_refused(count: int, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "documents.jsonl", [{"text": "a"}] * count)
    with pytest.raises(UserError, match=rf"documents.jsonl: must have the 2 documents of the token file, got {count};"):
        validation_texts(tmp_path, corpus(5, 5), samples_from(6), [1] * (END + 1))


def test_coverage_is_the_fraction_of_tokens_that_are_targets() -> None:
    assert coverage(StrideWindows(0, 20, 4, 4), [(0, 20)]) == 16 / 20
    assert coverage(StrideWindows(0, 20, 4, 8), [(0, 20)]) == 8 / 20
    assert coverage(StrideWindows(0, 20, 4, 1), [(0, 20)]) == 19 / 20
    assert coverage(StrideWindows(0, 20, 4, 4), [(3, 6)]) == 1.0
    whole = choose_samples(corpus(9, 9), window_tokens=4, stride_tokens=4, window_start="documents", val_fraction=0.5)
    assert coverage(whole.train, [(0, 10)]) == 1.0
    assert coverage(whole.val, [(10, 19)]) == 1.0


@pytest.mark.parametrize(("window_start", "floor_nats"), [("documents", 3.5), ("stride", None)])
def test_samples_are_read_as_written(window_start: str, floor_nats: float | None, tmp_path: Path) -> None:
    tokens = corpus(19, 29, 5, 4, nats=[7.0, 8.0, 1.5, 2.0])
    written = choose_samples(tokens, window_tokens=4, stride_tokens=1, window_start=window_start, val_fraction=0.18)
    write_samples(tmp_path / "samples", written)
    read = read_samples(tmp_path / "samples")
    for field in ("place", "count"):
        assert read.train[field].tolist() == written.train[field].tolist()
        assert read.val[field].tolist() == written.val[field].tolist()
    assert (read.window_tokens, read.val_positions, read.floor_nats) == (4, (50,), floor_nats)


def test_windows_by_stride_are_not_stored(tmp_path: Path) -> None:
    tokens = Tokens(np.broadcast_to(np.uint16(0), 10**12), np.zeros(1, np.int64), None, END)
    write_samples(
        tmp_path / "samples",
        choose_samples(tokens, window_tokens=4, stride_tokens=1, window_start="stride", val_fraction=0.5),
    )
    assert len(read_samples(tmp_path / "samples").train) == 10**12 // 2 - 4


def test_a_missing_samples_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file; run `dvc repro`"):
        read_samples(tmp_path / "samples")
