"""Tables read and written a row at a time, however long: .csv, .tsv, .jsonl. UserError with the place in the file."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmcore.base.errors import UserError
from llmcore.base.files import csv_writer, read_jsonl, reading, user_errors, writing
from llmcore.base.text import checked_input, is_unicode
from llmcore.data.reading import SEPARATORS, TABLE_SUFFIXES, check_suffix

MAX_LISTED_COLUMNS = 20  # in an error's text


def table_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table: strings from .csv and .tsv, any values from .jsonl. Blank lines are skipped.

    Quotation marks follow RFC 4180. UserError if there is no row, one has another number of fields than the header, or
    a line is not UTF-8 text.
    """
    suffix = check_suffix(path, TABLE_SUFFIXES, str(path))
    rows = _json_rows(path) if suffix == ".jsonl" else _separated_rows(path, SEPARATORS[suffix])
    number = 0
    for number, row in enumerate(rows, start=1):  # noqa: B007 - its last value is read below
        yield row
    if not number:
        raise UserError(f"{path}: must have at least one row, found none; add rows")


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(read_jsonl(path), start=1):
        checked_input(json.dumps(row, ensure_ascii=False), f"{path}, row {number}")
        yield row


def _separated_rows(path: Path, separator: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(sys.maxsize)  # of the process; 131,072 characters otherwise
    rows = csv.reader(_text_lines(path), delimiter=separator, strict=True)
    columns: list[str] = []
    begin = 1  # line of the row that is being read
    try:
        for fields in rows:
            if not columns:
                columns = fields
                if twice := [name for name in columns if columns.count(name) > 1]:
                    rule = f"the header must have {twice[0]!r} once, got it twice"
                    raise UserError(f"{path}: {rule}; rename or remove one")
            elif fields:
                if len(fields) != len(columns):
                    rule = f"must have {len(columns)} fields as the header has, got {len(fields)}"
                    raise UserError(f"{path}, line {begin}: {rule}; put text with {separator!r} in quotation marks")
                yield dict(zip(columns, fields, strict=True))
            begin = rows.line_num + 1
    except csv.Error as error:
        rule = f"its quotation marks do not match ({error})"
        remedy = "write a mark inside of a quoted text twice"
        raise UserError(f"{path}, the row that begins in line {begin}: {rule}; {remedy}") from None


def _text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, each line end as `\\n`, without a byte order mark."""
    errors = "surrogateescape"  # so that the line of a wrong byte is known
    with reading(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", errors=errors) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.isascii() and not is_unicode(line):
                raise UserError(f"{path}, line {number}: must be UTF-8 text; convert the file to UTF-8")
            if "\0" in line:
                raise UserError(f"{path}, line {number}: must be text, found a zero byte; convert the file to UTF-8")
            yield line


def text_cell(row: Mapping[str, Any], column: str, where: str) -> str:
    """Return a row's text in `column`; a missing value is empty. UserError, naming `where`, for a list or an object."""
    if column not in row:
        listed = [*map(repr, list(row)[:MAX_LISTED_COLUMNS]), *["..."] * (len(row) > MAX_LISTED_COLUMNS)]
        rule = f"must have the column {column!r}, has only {', '.join(listed)}"
        remedy = "the separator seems to be another; save it with commas as .csv, or with tabs as .tsv"
        is_one = len(row) == 1 and any(mark in next(iter(row)) for mark in ";\t|,")
        raise UserError(f"{where}: {rule}; {remedy if is_one else 'name one of them with --text-column'}")
    if isinstance(value := row[column], list | dict):
        raise UserError(f"{where}: {column!r} must be a string, got a {type(value).__name__}; correct the row")
    return checked_input(as_cell(value), f"{where}, {column!r}")


def as_cell(value: Any) -> str:
    """Return a value of JSON as the cell of a table: strings as they are, null empty, the rest as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@contextmanager
def table_writer(path: Path, columns: Sequence[str]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield the function that writes a row, in the form that the suffix of `path` names; the file appears at the end.

    A .csv or .tsv has these columns, empty where a row has no value; rows of .jsonl keep their own keys.
    """
    suffix = check_suffix(path, TABLE_SUFFIXES, str(path))
    with writing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:

        def write_json(row: Mapping[str, Any]) -> None:
            with user_errors(path):
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

        if suffix == ".jsonl":
            yield write_json
            return
        write = csv_writer(file, SEPARATORS[suffix])

        def write_cells(cells: Sequence[str]) -> None:
            with user_errors(path):
                write(cells)

        write_cells(columns)
        yield lambda row: write_cells([as_cell(row.get(column)) for column in columns])
