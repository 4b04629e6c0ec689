"""Read what people bring: text files, tables, rows in Alpaca form. Every fault is a UserError that names it."""

import csv
import io
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, read_jsonl

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SMS_COLUMNS = ["label", "text"]  # the SMS Spam Collection has neither header nor suffix


def text_files(path: Path) -> list[Path]:
    """Return the documents at `path`: the file itself, or the .txt files directly in the folder, by name."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; correct sources.text.path")
    files = sorted((file for file in path.iterdir() if file.suffix == ".txt" and file.is_file()), key=lambda f: f.name)
    if not files:
        raise UserError(f"{path}: must hold at least one .txt file, found none; add one or correct sources.text.path")
    return files


def read_documents(path: Path) -> list[str]:
    """Return the documents of a file: the whole of it, or of a .jsonl file the `text` of each row that has one."""
    if path.suffix != ".jsonl":
        return [read_text(path)]
    documents = []
    for number, row in enumerate(read_jsonl(path), start=1):
        if not isinstance(text := row.get("text"), str):
            raise UserError(f"{path}, row {number}: 'text' must be a string, got {text!r}; correct the row")
        _check_unicode(text, f"{path}, row {number}, 'text'")
        if text.strip():
            documents.append(text)
    if not documents:
        raise UserError(f"{path}: must hold at least one row with text, found none; add one")
    return documents


def read_text(path: Path) -> str:
    """Return a UTF-8 file's text without byte order mark, line ends as `\\n`; it must not be empty or binary."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); correct the path") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be UTF-8 text, byte {error.start} is not; convert or remove the file") from None
    if "\0" in text:
        raise UserError(f"{path}: must be text, found a zero byte at {text.index(chr(0))}; convert or remove the file")
    if not text.strip():
        raise UserError(f"{path}: must not be empty, got {len(data)} bytes of nothing but space; fill or remove it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_table(path: Path, quoting: bool = True) -> "pd.DataFrame":
    """Read a .csv, .tsv or .jsonl table, or the SMS Spam Collection (no suffix), every value as a string.

    Nothing is taken for a missing value: the messages "NA" and "null" stay what they are; an absent
    value is an empty string. `quoting` False reads quotation marks as ordinary characters.
    """
    if path.suffix == ".jsonl":
        return _table_of_rows(path)
    if path.suffix not in ("", *SEPARATORS):
        raise UserError(f"{path}: a table must end in .csv, .tsv or .jsonl, got {path.suffix!r}; convert the file")
    return _table_of_text(path, quoting)


def _table_of_text(path: Path, quoting: bool) -> "pd.DataFrame":
    import pandas as pd

    columns: dict[str, Any] = {} if path.suffix else {"header": None, "names": SMS_COLUMNS}
    try:
        with warnings.catch_warnings():
            # With a first row longer than the header, pandas drops fields and only warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.StringIO(read_text(path)),
                sep=SEPARATORS.get(path.suffix, "\t"),
                quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
                dtype=str,
                keep_default_na=False,
                index_col=False,
                **columns,
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: every row must have as many fields as the header ({reason}); put text that holds the "
            f"separator or line ends in quotation marks"
        ) from None


def _table_of_rows(path: Path) -> "pd.DataFrame":
    import pandas as pd

    rows = [{str(key): _as_text(value) for key, value in row.items()} for row in read_jsonl(path)]
    for number, row in enumerate(rows, start=1):
        for key, value in row.items():
            _check_unicode(value, f"{path}, row {number}, {key!r}")
    return pd.DataFrame(rows, dtype=str).fillna("")


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read_alpaca(path: Path) -> list[dict[str, Any]]:
    """Read rows in Alpaca form, a JSON list (.json) or one object a line (.jsonl), other keys kept.

    Each must have the strings `instruction` and `output`; `input` may be absent or null and is then
    "". Raises UserError with the row's number, counted from 1.
    """
    if path.suffix not in (".json", ".jsonl"):
        raise UserError(f"{path}: instructions must end in .json or .jsonl, got {path.suffix!r}; convert the file")
    rows = list(read_jsonl(path)) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(rows, list) or not rows:
        found = "an empty one" if rows == [] else type(rows).__name__
        raise UserError(f"{path}: must be a list of rows, got {found}; add rows with instruction, input, output")
    return [_alpaca_row(row, f"{path}, row {number}") for number, row in enumerate(rows, start=1)]


def _alpaca_row(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{where}: must be a JSON object, got {type(row).__name__}; correct the row")
    row = {**row, "input": "" if row.get("input") is None else row["input"]}
    for key in ("instruction", "input", "output"):
        if key not in row:
            raise UserError(f"{where}: {key!r} is missing, found {sorted(row)}; add it")
        if not isinstance(row[key], str):
            raise UserError(f"{where}: {key!r} must be a string, got {row[key]!r}; correct the row")
        _check_unicode(row[key], f"{where}, {key!r}")
    return row


def _check_unicode(text: str, where: str) -> None:
    """JSON can spell half a character (`\\ud800`), which no UTF-8 file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        got = repr(text[error.start])
        raise UserError(f"{where}: must be valid Unicode, got the lone surrogate {got}; correct the row") from None
