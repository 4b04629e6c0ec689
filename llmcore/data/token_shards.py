"""A corpus tokenized in parts, each a token folder of its own, and joined to one of many shards.

A part is the documents whose lines begin in one stretch of SHARD_BYTES of documents.jsonl. So the parts, and the bytes
of the whole, depend on nothing but the text and the tokenizer.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmcore.base.files import fresh_folder, read_json, user_errors, write_json
from llmcore.data.documents import DOCUMENTS_FILE, read_raw_part
from llmcore.data.tokens import encode_documents, shard_paths, write_array, write_tokens

SHARD_BYTES = 64 << 20  # of documents.jsonl: seconds of work, lost by a kill


class Part(NamedTuple):
    """The documents whose lines begin in `[begin, end)`, in bytes of documents.jsonl, and the folder of their ids."""

    begin: int
    end: int
    folder: Path


def corpus_parts(raw_text: Path, folder: Path, part_bytes: int) -> list[Part]:
    """Return the parts of a raw text folder, their token folders in `folder`."""
    total = (raw_text / DOCUMENTS_FILE).stat().st_size
    begins = range(0, total, part_bytes)
    return [Part(at, min(at + part_bytes, total), folder / f"{number:06d}") for number, at in enumerate(begins)]


def is_written(part: Part) -> bool:
    return (part.folder / "meta.json").is_file()


def write_part(
    raw_text: Path, part: Part, encode: Callable[[str], list[int]], *, end_of_text: int, tokenizer: str
) -> None:
    """Write the token folder of a part, with one document in memory at a time."""
    rows = read_raw_part(raw_text, part.begin, part.end)
    documents = encode_documents(rows, lambda texts: map(encode, texts))
    write_tokens(part.folder, documents, end_of_text=end_of_text, tokenizer=tokenizer, first=part.begin == 0)


def join_parts(folder: Path, parts: list[Part]) -> dict[str, Any]:
    """Make a fresh token folder of the folders of all parts and return the content of its `meta.json`.

    Its files of ids are those of the parts under another name, where the file system can do that, so that they are
    neither written nor stored twice.
    """
    folder = fresh_folder(folder)
    metas = [read_json(part.folder / "meta.json") for part in parts]
    filled = [(part.folder, meta) for part, meta in zip(parts, metas, strict=True) if meta["documents"]]
    lengths = [meta["tokens"] for _, meta in filled]
    for (source, _), path in zip(filled, shard_paths(folder, len(filled)), strict=True):
        _link(source / "tokens.bin", path)
    begins = np.cumsum([0, *lengths[:-1]])
    starts = [np.load(source / "documents.npy") + begin for (source, _), begin in zip(filled, begins, strict=True)]
    write_array(folder / "documents.npy", np.concatenate(starts))
    if (filled[0][0] / "document_nats.npy").exists():
        nats = [np.load(source / "document_nats.npy") for source, _ in filled]
        write_array(folder / "document_nats.npy", np.concatenate(nats))
    meta: dict[str, Any] = metas[0] | {key: sum(meta[key] for meta in metas) for key in ("tokens", "documents")}
    if len(lengths) > 1:
        meta["shard_tokens"] = lengths
    write_json(folder / "meta.json", meta)
    return meta


def _link(source: Path, target: Path) -> None:
    with user_errors(target):
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
