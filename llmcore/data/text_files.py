"""The user's own text, read in a stream: text, JSON Lines and Parquet, as they are or compressed with gzip or zstd."""

import io
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from llmcore.base.errors import UserError
from llmcore.base.files import read_errors, reading, row_of_line
from llmcore.base.text import checked_input
from llmcore.data.reading import decode_text

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
PLAIN_SUFFIXES = (".txt", ".text")
TEXT_SUFFIXES = (*PLAIN_SUFFIXES, ".jsonl")
CORPUS_SUFFIXES = (*(s + c for s in TEXT_SUFFIXES for c in ("", *COMPRESSIONS)), ".parquet")
PARQUET_ROWS = 256  # in memory at the same time
BUFFER_BYTES = 1 << 20


def text_files(path: Path, pattern: str = "*", key: str = "sources.text.files") -> tuple[list[Path], list[str]]:
    """Return the text files at `path`, and the names of what `pattern` matches besides.

    They are the file itself, or those that match the glob `pattern` in the folder, sorted by their path in it. `*` is
    each file of the folder itself, `**/*` each in its sub-folders too. `key` is where params.yaml has the pattern.
    """
    if path.is_file():
        if not _is_text(path):
            rule = f"must end in {', '.join(TEXT_SUFFIXES)} (.gz or .zst may follow) or .parquet, got {path.name!r}"
            raise UserError(f"sources.text.path: {rule}; convert the file, or rename it if it has that form")
        return [path], []
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; correct sources.text.path")
    with read_errors(path):
        try:
            found = sorted(path.glob(pattern), key=lambda entry: entry.relative_to(path).as_posix())
        except (ValueError, NotImplementedError) as error:
            rule = f"must be a pattern of files inside the folder, such as **/*.jsonl ({error})"
            raise UserError(f"{key}: {rule}, got {pattern!r}; correct it") from None
        files = [entry for entry in found if _is_text(entry) and entry.is_file()]
    if not files:
        rule = f"must contain at least one .txt file, or .jsonl or .parquet, that matches {pattern!r}, found none"
        raise UserError(f"{path}: {rule}; add one or correct sources.text.path or {key}")
    read = {*files, *(parent for file in files for parent in file.parents)}
    rest = [entry for entry in found if entry not in read]
    return files, [entry.relative_to(path).as_posix() + ("/" if entry.is_dir() else "") for entry in rest]


def _is_text(path: Path) -> bool:
    return path.name.lower().endswith(CORPUS_SUFFIXES)


def read_documents(path: Path) -> list[str]:
    """Return the documents of a file, as `iter_documents` does."""
    return list(iter_documents(path))


def iter_documents(path: Path, column: str = "text") -> Iterator[str]:
    """Yield the documents of a file, one in memory at a time: a text file is one, JSONL and Parquet have one per row.

    `column` names the text of a row; rows of white space alone are left out. UserError with the place of what is
    not text, and if there is no document.
    """
    form = next(suffix for suffix in reversed(path.suffixes) if suffix.lower() not in COMPRESSIONS).lower()
    if form in PLAIN_SUFFIXES:
        with _opened(path) as stream:
            data = stream.read()
        yield decode_text(path, data)
        return
    count = 0
    for number, text in enumerate(_texts_of_parquet(path, column) if form == ".parquet" else _texts(path, column), 1):
        if not isinstance(text, str):
            got = reprlib.repr(text)
            raise UserError(f"{path}, row {number}: {column!r} must be a string, got {got}; correct the row")
        if text.strip():
            count += 1
            yield checked_input(text, f"{path}, row {number}, {column!r}")
    if not count:
        raise UserError(f"{path}: must contain at least one row with text, found none; add one")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read its bytes, decompressed; UserError also if they are damaged."""
    with reading(path) as file, read_errors(path):
        if path.suffix.lower() not in COMPRESSIONS:
            yield file
            return
        from pyarrow import CompressedInputStream

        stream = CompressedInputStream(file, COMPRESSIONS[path.suffix.lower()])
        with _undamaged(path):
            yield cast(BinaryIO, io.BufferedReader(stream, BUFFER_BYTES))


@contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a file that is not what its name promises into a UserError."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: is damaged, or not what its suffix says ({reason}); restore or rename it") from None


def _texts(path: Path, column: str) -> Iterator[Any]:
    """Yield the value of `column` in each row of a JSONL file."""
    with _opened(path) as file, io.TextIOWrapper(file, encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip().strip("\ufeff"):
                    row = row_of_line(path, number, line)
                    if column not in row:
                        raise UserError(f"{path}, line {number}: {_no_column(column, row)}")
                    yield row[column]
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text ({error}); convert the file to UTF-8") from None


def _no_column(column: str, names: Iterable[str]) -> str:
    """Return what is wrong where rows lack the column of the text."""
    rule = f"must have the column {column!r}, has {reprlib.repr(list(names))}"
    return f"{rule}; name one of them as text_column of the source, or correct the row"


def _texts_of_parquet(path: Path, column: str) -> Iterator[Any]:
    """Yield the value of `column` in each row of a Parquet file."""
    from pyarrow.parquet import ParquetFile

    with reading(path) as file, _undamaged(path):
        table = ParquetFile(file, buffer_size=BUFFER_BYTES)  # a column chunk is read in pieces
        if column not in (names := table.schema_arrow.names):
            raise UserError(f"{path}: {_no_column(column, names)}")
        for batch in table.iter_batches(PARQUET_ROWS, columns=[column], use_threads=False):
            yield from batch.column(0).to_pylist()
