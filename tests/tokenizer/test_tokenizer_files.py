"""A tokenizer folder is read as it was written; inconsistent or broken files are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiktoken.load import data_gym_to_mergeable_bpe_ranks

from llmcore.base.errors import UserError
from llmcore.base.files import sha256_folder
from llmcore.tokenizer.bpe import BytePairTokenizer, fingerprint, load_byte_pair_tokenizer
from llmcore.tokenizer.load import load_tokenizer
from llmcore.tokenizer.train import train_tokenizer


@pytest.fixture
def folder(tokenizer: BytePairTokenizer, tmp_path: Path) -> Path:
    tokenizer.save(tmp_path / "t")
    return tmp_path / "t"


def test_a_folder_is_read_as_it_was_written(tokenizer: BytePairTokenizer, folder: Path, tmp_path: Path) -> None:
    again = load_byte_pair_tokenizer(folder)
    assert (again.merges, again.ranks, again.end_of_text) == (tokenizer.merges, tokenizer.ranks, tokenizer.end_of_text)
    again.save(tmp_path / "again")
    assert sha256_folder(tmp_path / "again") == sha256_folder(folder)


def test_a_tokenizer_without_merges_is_read_as_it_was_written(tmp_path: Path) -> None:
    BytePairTokenizer([]).save(tmp_path)
    assert load_tokenizer(tmp_path).vocab_size == 257


def test_tiktoken_reads_the_same_ranks(tokenizer: BytePairTokenizer, folder: Path) -> None:
    ranks = data_gym_to_mergeable_bpe_ranks(str(folder / "merges.txt"), str(folder / "vocab.json"))
    assert ranks == tokenizer.ranks


def test_the_fingerprint_depends_on_the_merges(tokenizer: BytePairTokenizer, folder: Path, tmp_path: Path) -> None:
    tokenizer.save_for_transformers(tmp_path / "model", context_length=24)
    train_tokenizer(["other words in other orders"] * 3, 300).save(tmp_path / "other")
    assert fingerprint(folder) == fingerprint(tmp_path / "model")
    assert fingerprint(folder) != fingerprint(tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("Ġb"), r"vocab\.json: lacks 'Ġb' \(id \d+\)"),
        (lambda v: v.pop("<|endoftext|>"), r"vocab\.json: lacks '<\|endoftext\|>'"),
        (lambda v: v.update(zebra=len(v)), r"vocab\.json: has 'zebra' \(id \d+\), which no merge makes"),
        (lambda v: v.update({"!": 1, '"': 0}), r"vocab\.json: has id 1 for '!', which must be 0"),
        (
            lambda v: v.update({"<|endoftext|>": len(v)}),
            r"vocab\.json: has id \d+ for '<\|endoftext\|>', which must be",
        ),
    ],
    ids=["gap", "no-end-of-text", "surplus", "swapped", "end-of-text-elsewhere"],
)
def test_a_vocabulary_that_the_merges_do_not_make_is_refused(
    folder: Path, change: Callable[[dict[str, int]], object], message: str
) -> None:
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    change(vocab)
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    assert_refused(folder, message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Ġzeb ra", r"merges\.txt, line \d+: merges a token that no earlier line makes, 'Ġzeb'"),
        ("a b c", r"merges\.txt, line \d+: must be two tokens, got 'a b c'"),
        ("ab", r"merges\.txt, line \d+: must be two tokens, got 'ab'"),
        ("a 日", r"merges\.txt, line \d+: must be two tokens, got 'a 日'"),
        ("Ġ b", r"merges\.txt, line \d+: makes a token a second time, 'Ġ b'"),
        ("q q", r"vocab\.json: lacks 'qq'"),
    ],
)
def test_a_wrong_merge_is_refused_with_its_line(folder: Path, line: str, message: str) -> None:
    with open(folder / "merges.txt", "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    assert_refused(folder, message)


def test_a_missing_merge_is_refused_with_the_token_it_makes(folder: Path, tokenizer: BytePairTokenizer) -> None:
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    (folder / "merges.txt").write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    assert_refused(
        folder, r"vocab\.json: has '.+' \(id \d+\), which no merge makes; .* does not belong to .*merges\.txt"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", b"{", r"vocab\.json: not valid JSON"),
        ("vocab.json", b"[]", r"vocab\.json: must be a JSON object"),
        ("merges.txt", b"\xff\xfe", r"merges\.txt: not UTF-8 text"),
        ("merges.txt", None, r"merges\.txt: no such file"),
        ("vocab.json", None, r"vocab\.json: no such file"),
    ],
)
def test_a_broken_or_missing_file_is_refused(folder: Path, name: str, content: bytes | None, message: str) -> None:
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    assert_refused(folder, message)


def assert_refused(folder: Path, message: str) -> None:
    before = sha256_folder(folder)
    with pytest.raises(UserError, match=message):
        load_tokenizer(folder)
    assert sha256_folder(folder) == before
