"""Overlong runs are cut before tiktoken and tokenizers see them; ordinary text is not."""

import time

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.tokenizer import long_runs
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.byte_level import PATTERN
from llmcore.tokenizer.long_runs import MAX_RUN, cut_long_runs
from llmcore.tokenizer.train import train_tokenizer

MAX_SECONDS = 60  # quadratic time would be hours
RUNS = [
    *("a", "ab", "é", "中", "e\u0301", "0", "1\u00b2", "!", "_", "-=", "🐈", "\ufffd"),
    *(" ", "\n", " \n\t", "\u3000", "\x1c!", "\x00"),
]
ONES = st.sampled_from([*RUNS, "the ball", " a", "x1"])


def pattern_pieces(text: str) -> list[str]:
    """The pieces that tiktoken makes of a text: with a vocabulary of bytes alone, a piece cannot be told from ids."""
    import regex

    return regex.findall(PATTERN, text)


@pytest.mark.parametrize("run", RUNS)
def test_no_piece_is_longer_than_the_limit(run: str) -> None:
    text = f"the ball {run * (5 * MAX_RUN)} a ball"
    parts = cut_long_runs(text)
    assert "".join(parts) == text
    assert max(len(piece) for part in parts for piece in pattern_pieces(part)) <= MAX_RUN + 1  # with a space before


@settings(deadline=None)
@given(st.lists(st.tuples(ONES, st.integers(1, 3 * MAX_RUN)), max_size=4))
def test_cutting_loses_nothing_and_bounds_every_piece(runs: list[tuple[str, int]]) -> None:
    text = "".join(run * count for run, count in runs)
    parts = cut_long_runs(text)
    assert "".join(parts) == text
    assert max((len(piece) for part in parts for piece in pattern_pieces(part)), default=0) <= MAX_RUN + 1


@pytest.mark.parametrize("two", ["a1", "1!", "a!", "a ", "中1", "\n_"])
def test_two_runs_of_different_kinds_are_not_one(two: str) -> None:
    text = two[0] * (MAX_RUN - 100) + two[1] * (MAX_RUN - 100)
    assert cut_long_runs(text) == [text]


@settings(deadline=None)
@given(st.lists(st.tuples(ONES, st.integers(1, MAX_RUN // 3)), max_size=20))
def test_text_without_an_overlong_run_stays_whole(runs: list[tuple[str, int]]) -> None:
    text = ". ".join(run * count for run, count in runs)
    if max((len(piece) for piece in pattern_pieces(text)), default=0) <= MAX_RUN:
        assert cut_long_runs(text) == [text]


def test_ids_of_ordinary_text_are_those_of_tiktoken(tokenizer: BytePairTokenizer) -> None:
    text = "Anna had a red ball.\n\n" * 400 + "-" * MAX_RUN + " " * MAX_RUN + "日本語、" * 800 + "a1" * 400
    plain = tiktoken.Encoding("plain", pat_str=PATTERN, mergeable_ranks=tokenizer.ranks, special_tokens={})
    assert tokenizer.encode(text) == plain.encode_ordinary(text)
    assert list(tokenizer.encode_stream([text, "", text])) == [
        plain.encode_ordinary(text),
        [],
        plain.encode_ordinary(text),
    ]


@pytest.mark.parametrize("run", RUNS)
def test_a_million_characters_in_a_row_are_encoded(run: str, tokenizer: BytePairTokenizer) -> None:
    text = run * (1_000_000 // len(run)) + "x"
    started = time.monotonic()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert list(tokenizer.encode_stream(["a", text])) == [tokenizer.encode("a"), ids]
    assert time.monotonic() - started < MAX_SECONDS


@pytest.mark.parametrize("run", ["a", "ab", " ", "中", "1"])
def test_a_vocabulary_is_learned_from_a_million_characters_in_a_row(run: str) -> None:
    started = time.monotonic()
    learned = train_tokenizer([run * 1_000_000, "the ball"], 300)
    assert learned.merges == train_tokenizer([run * 1_000_000, "the ball"], 300).merges
    assert time.monotonic() - started < MAX_SECONDS


def test_cutting_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    long_runs._report.cache_clear()
    for _ in range(3):
        cut_long_runs("a" * 5 * MAX_RUN)
    assert capsys.readouterr().err.count("runs of more than 1,000 characters") == 1
