"""The documents of data/raw/text: one JSON object per document in `documents.jsonl`."""

from collections.abc import Iterator
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from llmcore.base.files import read_jsonl

DOCUMENTS_FILE = "documents.jsonl"


class DocumentRow(TypedDict):
    """data/raw/text/documents.jsonl"""

    text: str
    nats: NotRequired[float]  # -log p of the text, known of the built-in world's stories


def read_raw_text(folder: str | Path) -> Iterator[DocumentRow]:
    """Yield the documents of a raw text folder in their order, one at a time."""
    return cast(Iterator[DocumentRow], read_jsonl(Path(folder) / DOCUMENTS_FILE))
