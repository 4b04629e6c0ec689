"""Ids equal those of tiktoken and transformers for any text, and decoding restores the text."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmcore.tokenizer.bpe import BytePairTokenizer, load_byte_pair_tokenizer
from llmcore.tokenizer.byte_level import BYTE_TO_CHARACTER, to_bytes, to_characters
from llmcore.tokenizer.tokenizer import TEXTS_PER_BATCH
from llmcore.tokenizer.train import train_tokenizer

HOSTILE = [
    "",
    " ",
    "<|endoftext|>",
    "a <|endoftext|><|endoftext|> b",
    "the  ball\n\n\n  the\tball \r\n",
    "trailing spaces   ",
    "\u3000\u00a0 \u2028x",
    "it's Anna'll 'S",
    "1000 ²³ ½ ٣",
    "naïve e\u0301 日本 한국어 🐈\u200d🦺",
    "\x00\x01\x7f\x85\ufeff\ufffd",
    "#version: 0.2",
    "ballballball" * 20,
]
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
spaced = st.lists(st.sampled_from([*"abe.'1 \n\t", "  ", "ball", " the", "1000", "<|endoftext|>", "\u00a0", "é"])).map(
    "".join
)

mirror = os.environ.get("LLMCORE_MIRROR", "")
in_mirror = pytest.mark.skipif(
    not (Path(mirror) / "vocab.bpe").is_file() or not mirror,
    reason="needs GPT-2's encoder.json and vocab.bpe in the folder LLMCORE_MIRROR",
)


@pytest.fixture(scope="module")
def theirs(tokenizer: BytePairTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_for_transformers(folder, context_length=24)
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def their_gpt2(gpt2: BytePairTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("their-gpt2")
    gpt2.save_for_transformers(folder, context_length=1024)
    return transformers.GPT2TokenizerFast.from_pretrained(folder)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> BytePairTokenizer:
    folder = tmp_path_factory.mktemp("gpt2")
    shutil.copy(Path(mirror) / "vocab.bpe", folder / "merges.txt")
    shutil.copy(Path(mirror) / "encoder.json", folder / "vocab.json")
    return load_byte_pair_tokenizer(folder)


@pytest.fixture(scope="module")
def tiktoken_gpt2() -> tiktoken.Encoding:
    """Return GPT-2's encoding as tiktoken reads it, with tiktoken's own pattern."""
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks
    from tiktoken_ext.openai_public import r50k_pat_str

    ranks = data_gym_to_mergeable_bpe_ranks(f"{mirror}/vocab.bpe", f"{mirror}/encoder.json")
    specials = {"<|endoftext|>": 50256}
    return tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens=specials)


@settings(max_examples=300, deadline=None)
@given(text=any_text | spaced)
def test_ids_equal_those_of_transformers(text: str, tokenizer: BytePairTokenizer, theirs: Any) -> None:
    assert tokenizer.encode(text) == theirs(text, split_special_tokens=True).input_ids


@pytest.mark.parametrize("text", HOSTILE)
def test_ids_of_hostile_texts_equal_those_of_transformers(text: str, tokenizer: BytePairTokenizer, theirs: Any) -> None:
    assert tokenizer.encode(text) == theirs(text, split_special_tokens=True).input_ids
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=300, deadline=None)
@given(text=any_text | spaced)
def test_decoding_restores_the_text(text: str, tokenizer: BytePairTokenizer) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.end_of_text not in ids
    assert sum(tokenizer.token_bytes[number] for number in ids) == len(text.encode())


def test_end_of_text_is_the_last_id_and_decodes_to_its_name(tokenizer: BytePairTokenizer, theirs: Any) -> None:
    assert tokenizer.end_of_text == tokenizer.vocab_size - 1 == theirs.eos_token_id
    assert tokenizer.vocab_size == len(theirs) == len(tokenizer.token_bytes)
    assert tokenizer.decode([tokenizer.end_of_text]) == "<|endoftext|>"


def test_end_of_text_as_the_special_token_is_one_id_in_transformers_too(
    tokenizer: BytePairTokenizer, theirs: Any
) -> None:
    ids = [*tokenizer.encode("the ball"), tokenizer.end_of_text, *tokenizer.encode(" a ball")]
    assert theirs("the ball<|endoftext|> a ball").input_ids == ids
    assert theirs.decode(ids) == "the ball<|endoftext|> a ball"


def test_every_id_has_the_bytes_of_its_token(tokenizer: BytePairTokenizer) -> None:
    assert [tokenizer.decode_bytes([number]) for number in range(tokenizer.end_of_text)] == list(tokenizer.ranks)
    assert list(tokenizer.ranks.values()) == list(range(tokenizer.end_of_text))


def test_a_cut_character_decodes_to_the_replacement_character(tokenizer: BytePairTokenizer) -> None:
    ids = tokenizer.encode("é")
    assert (tokenizer.decode(ids[:1]), tokenizer.decode_bytes(ids)) == ("\ufffd", b"\xc3\xa9")


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 600])
def test_a_stream_is_encoded_as_its_texts_one_by_one(count: int, tokenizer: BytePairTokenizer) -> None:
    texts = [f"{HOSTILE[number % len(HOSTILE)]} ball {number}" for number in range(count)]
    assert list(tokenizer.encode_stream(iter(texts))) == [tokenizer.encode(text) for text in texts]


def test_a_stream_reads_at_most_one_batch_of_texts_ahead(tokenizer: BytePairTokenizer) -> None:
    texts = iter(["ball"] * 10_000)
    next(tokenizer.encode_stream(texts))
    assert len(list(texts)) >= 10_000 - TEXTS_PER_BATCH


@pytest.mark.parametrize("text", [" " * 200_000 + "a", "\n" * 1_500_000, "a" * 200_000, "^" * 200_000])
def test_a_long_run_of_one_character_is_encoded(text: str, tokenizer: BytePairTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_alphabet_is_that_of_gpt2(tokenizer: BytePairTokenizer) -> None:
    assert len(set(BYTE_TO_CHARACTER.values())) == 256
    assert to_characters(b" ball\n") == "ĠballĊ"
    assert to_bytes("ĠballĊ") == b" ball\n"
    assert to_characters(bytes(BYTE_TO_CHARACTER)[:3]) == '!"#'


def test_training_twice_learns_the_same_merges(tokenizer: BytePairTokenizer) -> None:
    texts = [f"the {name} has {number} balls" for number in range(40) for name in ("cat", "dog", "hen")]
    first, second = train_tokenizer(texts, 300), train_tokenizer(iter(texts), 300)
    assert first.merges == second.merges
    assert first.vocab_size == 300


def test_merges_are_learned_in_the_order_of_their_counts() -> None:
    learned = train_tokenizer(["abc"] * 3 + ["ab"] * 2 + ["xy"] * 2 + ["once"], 256 + 3 + 1)
    assert learned.merges == [(b"a", b"b"), (b"ab", b"c"), (b"x", b"y")]
    assert learned.encode("abcxyab") == [257, 258, 256]


def test_a_small_text_gives_fewer_tokens_than_asked_for() -> None:
    learned = train_tokenizer(["abab abab"], 1000)
    assert 257 < learned.vocab_size < 265
    assert train_tokenizer([""], 1000).merges == []
    assert train_tokenizer(["never twice"], 1000).vocab_size < 262


@in_mirror
def test_gpt2_ids_printed_in_the_book(gpt2: BytePairTokenizer) -> None:
    before, after = "Hello, do you like tea? ", " In the sunlit terracesof someunknownPlace."
    ids = [*gpt2.encode(before), gpt2.end_of_text, *gpt2.encode(after)]
    assert ids == [
        *(15496, 11, 466, 345, 588, 8887, 30, 220, 50256),
        *(554, 262, 4252, 18250, 8812, 2114, 1659, 617, 34680, 27271, 13),
    ]
    assert len(gpt2.encode((Path(mirror) / "the-verdict.txt").read_text(encoding="utf-8"))) == 5145
    assert gpt2.vocab_size == 50257


@in_mirror
@settings(max_examples=300, deadline=None)
@given(text=any_text | spaced)
@example(text="".join(HOSTILE))
def test_ids_of_gpt2_equal_those_of_tiktoken_and_transformers_and_decode_to_the_text(
    text: str, gpt2: BytePairTokenizer, tiktoken_gpt2: tiktoken.Encoding, their_gpt2: Any
) -> None:
    ids = gpt2.encode(text)
    assert ids == tiktoken_gpt2.encode_ordinary(text) == their_gpt2(text, split_special_tokens=True).input_ids
    assert gpt2.decode(ids) == text


@in_mirror
def test_end_of_text_as_the_special_token_is_one_id_in_both(
    gpt2: BytePairTokenizer, tiktoken_gpt2: tiktoken.Encoding, their_gpt2: Any
) -> None:
    before, after = "the end", " a start"
    ids = [*gpt2.encode(before), gpt2.end_of_text, *gpt2.encode(after)]
    text = f"{before}<|endoftext|>{after}"
    assert ids == tiktoken_gpt2.encode(text, allowed_special="all") == their_gpt2(text).input_ids
    assert gpt2.end_of_text not in gpt2.encode(text)
