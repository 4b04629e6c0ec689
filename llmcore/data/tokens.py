"""The token file: one flat little-endian array, memory-mapped, and the positions of its documents.

A folder contains `tokens.bin`, `documents.npy` (the position of each document's first id),
`document_nats.npy` (-log p of each document, only of the built-in world) and `meta.json`; of a mixture
`sources.json` too. End-of-text stands between documents, not after the last. Of a large corpus the array is
cut into shards, `tokens-00001-of-00050.bin` and so on, whose lengths are `shard_tokens` in `meta.json`; it
is read as one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import tee
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmcore.base.errors import UserError
from llmcore.base.files import fresh_folder, read_json, user_errors, write_json, writing
from llmcore.data.documents import DocumentRow
from llmcore.data.meta import check_counts
from llmcore.data.source_spans import SourceSpan, read_spans

MAX_OPEN_SHARDS = 256


@dataclass(frozen=True)
class Tokens:
    """A corpus as ids, with the position of each document and, where the source knows it, its -log p."""

    ids: "np.ndarray | ShardedArray"  # (N,) uint16 or uint32, end-of-text between documents
    starts: np.ndarray  # (documents,) position of each document's first id
    document_nats: np.ndarray | None  # (documents,) -log p, of the closing end-of-text too
    end_of_text: int
    sources: tuple[SourceSpan, ...] = ()  # of a mixture

    @property
    def spans(self) -> tuple[SourceSpan, ...]:
        """The ids of each source; all of them where there is one."""
        return self.sources or (SourceSpan("", 0, len(self.ids)),)


class ShardedArray:
    """One array that lies in several files, memory-mapped; it is read by a slice or by positions.

    Few files are open at a time: a process may not open thousands.
    """

    def __init__(self, paths: Sequence[Path], lengths: Sequence[int], dtype: np.dtype[Any]):
        self.ends = np.cumsum(lengths)
        self.dtype = dtype
        self._shard = lru_cache(maxsize=MAX_OPEN_SHARDS)(lambda number: np.memmap(paths[number], dtype, mode="r"))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, key: slice | np.ndarray) -> np.ndarray:
        positions = np.arange(*key.indices(len(self))) if isinstance(key, slice) else key
        numbers = np.searchsorted(self.ends, positions, side="right")
        ids = np.empty(positions.shape, self.dtype)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            begin = self.ends[number - 1] if number else 0
            ids[here] = self._shard(number)[positions[here] - begin]
        return ids


class Document(NamedTuple):
    """The ids of a document, without end-of-text, and its -log p where the source knows it."""

    ids: Sequence[int]
    nats: float | None = None


def encode_documents(
    rows: Iterable[DocumentRow], encode_stream: Callable[[Iterable[str]], Iterator[list[int]]]
) -> Iterator[Document]:
    """Yield each row as a Document; `rows` are read once, no further ahead than `encode_stream` reads."""
    encoded, kept = tee(rows)
    for ids, row in zip(encode_stream(row["text"] for row in encoded), kept, strict=True):
        yield Document(ids, row.get("nats"))


def write_tokens(
    folder: str | Path, documents: Iterable[Document], *, end_of_text: int, tokenizer: str, first: bool = True
) -> dict[str, Any]:
    """Write a fresh token folder and return the content of its `meta.json`, which is written last.

    Either every document has `nats` or none. `end_of_text` is the last id of the vocabulary and decides
    whether two bytes per id are enough; `tokenizer` is the tokenizer's fingerprint. Unless the documents are the
    `first` of their corpus, end-of-text stands before them too.
    """
    folder = fresh_folder(folder)
    dtype = np.dtype("<u2") if end_of_text < 1 << 16 else np.dtype("<u4")
    starts: list[int] = []
    nats: list[float] = []
    position = 0
    path = folder / "tokens.bin"
    with writing(path) as temporary, open(temporary, "wb") as file:
        for document in documents:
            ids = document.ids
            separator = [end_of_text] if starts or not first else []
            starts.append(position + len(separator))
            position += len(separator) + len(ids)
            with user_errors(path):
                file.write(np.array([*separator, *ids], dtype).tobytes())
            if document.nats is not None:
                nats.append(document.nats)
    assert len(nats) in (0, len(starts)), "some documents have nats and some have none"
    write_array(folder / "documents.npy", np.array(starts, "<i8"))
    if nats:
        write_array(folder / "document_nats.npy", np.array(nats, "<f8"))
    meta = {
        "dtype": dtype.str,
        "tokens": position,
        "documents": len(starts),
        "end_of_text": end_of_text,
        "tokenizer": tokenizer,
    }
    write_json(folder / "meta.json", meta)
    return meta


def join_documents(documents: Sequence[Sequence[int]], end_of_text: int) -> Tokens:
    """Return the documents, each a sequence of ids, as a corpus in memory."""
    ids: list[int] = []
    starts: list[int] = []
    for document in documents:
        if starts:
            ids.append(end_of_text)
        starts.append(len(ids))
        ids.extend(document)
    return Tokens(np.array(ids), np.array(starts), None, end_of_text)


def open_tokens(folder: str | Path) -> Tokens:
    """Memory-map a token folder; UserError if a file of ids has not the length that `meta.json` states."""
    folder = Path(folder)
    meta = read_json(folder / "meta.json")
    dtype = np.dtype(meta["dtype"])
    lengths = meta.get("shard_tokens", [meta["tokens"]])
    paths = shard_paths(folder, len(lengths))
    for path, length in zip(paths, lengths, strict=True):
        size = path.stat().st_size if path.is_file() else 0
        if size != length * dtype.itemsize:
            expected = length * dtype.itemsize
            raise UserError(f"{path}: must have {expected} bytes, got {size}; run `dvc repro tokenize` to rebuild it")
    starts = np.load(folder / "documents.npy")
    check_counts(folder / "meta.json", meta, documents=len(starts))
    nats = folder / "document_nats.npy"
    return Tokens(
        ids=np.memmap(paths[0], dtype, mode="r") if len(paths) == 1 else ShardedArray(paths, lengths, dtype),
        starts=starts,
        document_nats=np.load(nats) if nats.exists() else None,
        end_of_text=meta["end_of_text"],
        sources=read_spans(folder),
    )


def shard_paths(folder: Path, count: int) -> list[Path]:
    """Return the files of ids of a token folder with `count` shards."""
    if count == 1:
        return [folder / "tokens.bin"]
    return [folder / f"tokens-{number:05d}-of-{count:05d}.bin" for number in range(1, count + 1)]


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as `.npy`, atomically."""
    with writing(path) as temporary, user_errors(path), open(temporary, "wb") as file:
        np.save(file, array)
