"""The documents of data/raw/text: one JSON object per document in `documents.jsonl`."""

from collections.abc import Iterator
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from llmcore.base.errors import UserError
from llmcore.base.files import parse_json, read_jsonl, reading
from llmcore.base.seeds import numpy_generator

DOCUMENTS_FILE = "documents.jsonl"


class DocumentRow(TypedDict):
    """data/raw/text/documents.jsonl"""

    text: str
    source: NotRequired[str]  # the name of a mixture's part
    nats: NotRequired[float]  # -log p of the text, known of the built-in world's stories


def read_raw_text(folder: str | Path) -> Iterator[DocumentRow]:
    """Yield the documents of a raw text folder in their order, one at a time."""
    return cast(Iterator[DocumentRow], read_jsonl(Path(folder) / DOCUMENTS_FILE))


def read_raw_part(folder: str | Path, begin: int, end: int) -> Iterator[DocumentRow]:
    """Yield the documents whose lines begin in `[begin, end)`, in bytes of the file."""
    path = Path(folder) / DOCUMENTS_FILE
    with reading(path) as file:
        if begin:
            file.seek(begin - 1)
            file.readline()
        while (position := file.tell()) < end and (line := file.readline()):
            yield _row(path, position, line)


def sample_raw_text(folder: str | Path, share: float, seed: int) -> Iterator[DocumentRow]:
    """Yield each document with a chance of `share`, in their order."""
    path = Path(folder) / DOCUMENTS_FILE
    draw = numpy_generator(seed, "tokenizer")
    position = 0
    with reading(path) as file:
        for line in file:
            if draw.random() < share:
                yield _row(path, position, line)
            position += len(line)


def _row(path: Path, position: int, line: bytes) -> DocumentRow:
    try:
        return cast(DocumentRow, parse_json(line.decode("utf-8")))
    except ValueError as error:
        raise UserError(f"{path}, byte {position}: not valid JSON ({error}); run `dvc repro --force`") from None
