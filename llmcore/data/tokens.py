"""The token file: one flat little-endian array, memory-mapped, with a table of its documents.

A folder holds `tokens.bin`, `documents.npy` (where each document begins), `document_nats.npy` (only
from the built-in world: -log p of each document) and `meta.json`. End-of-text stands between
documents, not after the last.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmcore.base.errors import UserError
from llmcore.base.files import fresh_folder, read_json, user_errors, write_json, writing


@dataclass(frozen=True)
class Tokens:
    """A corpus as ids, with the place and, where the source knows it, the -log p of each document."""

    ids: np.ndarray  # (N,) uint16 or uint32, end-of-text between documents
    starts: np.ndarray  # (documents,) position of each document's first id
    document_nats: np.ndarray | None  # (documents,) -log p, closing end-of-text included
    end_of_text: int


def write_tokens(
    folder: str | Path,
    documents: Iterable[Sequence[int]],
    document_nats: Sequence[float] | None,
    *,
    end_of_text: int,
    tokenizer: str,
) -> dict[str, Any]:
    """Write a token folder from the ids of each document and return its `meta.json`.

    `end_of_text` is the last id of the vocabulary, so it also says which integer type is wide enough.
    """
    folder = fresh_folder(folder)
    dtype = np.dtype("<u2") if end_of_text < 1 << 16 else np.dtype("<u4")
    starts: list[int] = []
    position, path = 0, folder / "tokens.bin"
    with writing(path) as temporary, open(temporary, "wb") as file:
        for ids in documents:
            separator = [end_of_text] if starts else []
            starts.append(position + len(separator))
            position += len(separator) + len(ids)
            with user_errors(path):
                file.write(np.array([*separator, *ids], dtype).tobytes())
    write_array(folder / "documents.npy", np.array(starts, "<i8"))
    if document_nats is not None:
        write_array(folder / "document_nats.npy", np.array(document_nats, "<f8"))
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
    """Return documents as a corpus in memory, without writing a file."""
    ids: list[int] = []
    starts: list[int] = []
    for document in documents:
        if starts:
            ids.append(end_of_text)
        starts.append(len(ids))
        ids.extend(document)
    return Tokens(np.array(ids), np.array(starts), None, end_of_text)


def open_tokens(folder: str | Path) -> Tokens:
    """Memory-map a token folder; a file whose length is not what `meta.json` says is a UserError."""
    folder = Path(folder)
    meta = read_json(folder / "meta.json")
    path, dtype = folder / "tokens.bin", np.dtype(meta["dtype"])
    size = path.stat().st_size if path.is_file() else 0
    if size != meta["tokens"] * dtype.itemsize:
        expected = meta["tokens"] * dtype.itemsize
        raise UserError(f"{path}: must have {expected} bytes, got {size}; run `dvc repro tokenize` to rebuild it")
    nats = folder / "document_nats.npy"
    return Tokens(
        ids=np.memmap(path, dtype, mode="r"),
        starts=np.load(folder / "documents.npy"),
        document_nats=np.load(nats) if nats.exists() else None,
        end_of_text=meta["end_of_text"],
    )


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as `.npy`, atomically."""
    with writing(path) as temporary, user_errors(path), open(temporary, "wb") as file:
        np.save(file, array)
