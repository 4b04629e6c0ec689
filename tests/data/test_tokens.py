"""The token file is read as it was written."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, sha256_folder
from llmcore.data.documents import DocumentRow
from llmcore.data.tokens import Document, Tokens, encode_documents, join_documents, open_tokens, write_tokens

DOCUMENTS = [[1, 2, 3], [4], [5, 6]]


def written(folder: Path, nats: list[float] | None = None, end_of_text: int = 256) -> Tokens:
    documents = [Document(ids, nats[number] if nats else None) for number, ids in enumerate(DOCUMENTS)]
    write_tokens(folder, iter(documents), end_of_text=end_of_text, tokenizer="abc")
    return open_tokens(folder)


def test_end_of_text_stands_between_documents_and_not_after_the_last(tmp_path: Path) -> None:
    tokens = written(tmp_path / "tokens")
    assert tokens.ids[:].tolist() == [1, 2, 3, 256, 4, 256, 5, 6]
    assert tokens.starts.tolist() == [0, 4, 6]
    assert tokens.end_of_text == 256
    assert tokens.document_nats is None


def test_nats_of_documents_are_kept(tmp_path: Path) -> None:
    tokens = written(tmp_path / "tokens", nats=[0.1, 2.5, 3.25])
    assert tokens.document_nats is not None
    assert tokens.document_nats.tolist() == [0.1, 2.5, 3.25]


def test_nats_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    written(tmp_path / "tokens", nats=[0.1, 2.5, 3.25])
    assert written(tmp_path / "tokens").document_nats is None


@pytest.mark.parametrize(("end_of_text", "dtype"), [(256, "<u2"), (50256, "<u2"), (65535, "<u2"), (65536, "<u4")])
def test_ids_have_the_smallest_sufficient_type(tmp_path: Path, end_of_text: int, dtype: str) -> None:
    ids = written(tmp_path / "tokens", end_of_text=end_of_text).ids
    assert ids.dtype == np.dtype(dtype)
    assert ids[3:4] == end_of_text


def test_meta_describes_the_token_file(tmp_path: Path) -> None:
    written(tmp_path / "tokens")
    meta = {"dtype": "<u2", "tokens": 8, "documents": 3, "end_of_text": 256, "tokenizer": "abc"}
    assert read_json(tmp_path / "tokens/meta.json") == meta


def test_a_corpus_in_memory_equals_the_one_in_a_file(tmp_path: Path) -> None:
    joined = join_documents(DOCUMENTS, 256)
    read = written(tmp_path / "tokens")
    assert joined.ids[:].tolist() == read.ids[:].tolist()
    assert joined.starts.tolist() == read.starts.tolist()
    assert joined.end_of_text == read.end_of_text


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    written(tmp_path / "first")
    written(tmp_path / "second")
    assert sha256_folder(tmp_path / "first") == sha256_folder(tmp_path / "second")


def test_nats_of_only_some_documents_are_refused(tmp_path: Path) -> None:
    documents = [Document([1], 0.5), Document([2])]
    with pytest.raises(AssertionError, match="some documents have nats"):
        write_tokens(tmp_path / "tokens", documents, end_of_text=256, tokenizer="abc")


def test_documents_are_encoded_with_their_nats_in_one_pass() -> None:
    read: list[str] = []

    def rows() -> Iterator[DocumentRow]:
        for number in range(5):
            read.append(str(number))
            yield {"text": str(number), "nats": number / 2}

    def encode_pairs(texts: Iterable[str]) -> Iterator[list[int]]:
        """Encode two texts at a time, as a tokenizer encodes batches."""
        texts = iter(texts)
        while pair := [text for _, text in zip(range(2), texts, strict=False)]:
            yield from ([int(text)] for text in pair)

    documents = encode_documents(rows(), encode_pairs)
    assert next(documents) == Document([0], 0.0)
    assert read == ["0", "1"]
    assert list(documents) == [Document([number], number / 2) for number in range(1, 5)]
    assert read == ["0", "1", "2", "3", "4"]


def test_documents_without_nats_are_encoded_without() -> None:
    assert list(encode_documents([{"text": "7"}], lambda texts: ([int(text)] for text in texts))) == [Document([7])]


@pytest.mark.parametrize("kept", [0, 15])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    written(tmp_path / "tokens")
    file = tmp_path / "tokens/tokens.bin"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=rf"tokens.bin: must have 16 bytes, got {kept}; run `dvc repro tokenize`"):
        open_tokens(tmp_path / "tokens")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "tokens")
    (tmp_path / "tokens/tokens.bin").unlink()
    with pytest.raises(UserError, match="must have 16 bytes, got 0"):
        open_tokens(tmp_path / "tokens")
    with pytest.raises(UserError, match=r"none/meta.json: no such file"):
        open_tokens(tmp_path / "none")
