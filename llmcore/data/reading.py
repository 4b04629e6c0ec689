"""Read the user's files: text, tables, rows in Alpaca form. UserError with the place for everything malformed."""

import csv
import io
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, cast

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, read_jsonl
from llmcore.base.rows import InstructionRow

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SMS_COLUMNS = ["label", "text"]  # the SMS Spam Collection has neither header nor suffix


class AlpacaRow(InstructionRow):
    """A row of a source: what is prepared, and the split that a row may name. Other keys may exist too."""

    split: NotRequired[str]  # not checked yet


def text_files(path: Path) -> list[Path]:
    """Return the files at `path`: the file itself, or the .txt files directly in the folder, sorted by name."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; correct sources.text.path")
    files = sorted((file for file in path.iterdir() if file.suffix == ".txt" and file.is_file()), key=lambda f: f.name)
    if not files:
        raise UserError(
            f"{path}: must contain at least one .txt file, found none; add one or correct sources.text.path"
        )
    return files


def read_documents(path: Path) -> list[str]:
    """Return the documents of a file: of a .jsonl file each row's `text` that is not empty, else the whole text."""
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
        raise UserError(f"{path}: must contain at least one row with text, found none; add one")
    return documents


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without byte order mark, line ends as `\\n`; UserError if empty or binary."""
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
        raise UserError(f"{path}: must not be empty, got {len(data)} bytes of white space; add text or remove the file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_table(path: Path, quoting: bool = True) -> "pd.DataFrame":
    """Read a .csv, .tsv or .jsonl table, or the SMS Spam Collection (no suffix), every value as a string.

    The strings "NA" and "null" are ordinary text; a missing value is an empty string. With `quoting`
    False, quotation marks are ordinary characters.
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
            # If the first row is longer than the header, pandas drops fields and only warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table: pd.DataFrame = pd.read_csv(
                io.StringIO(read_text(path)),
                sep=SEPARATORS.get(path.suffix, "\t"),
                quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
                dtype=str,
                keep_default_na=False,
                index_col=False,
                **columns,
            )
            return table
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: every row must have as many fields as the header ({reason}); put text that contains "
            f"the separator or line ends in quotation marks"
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


def read_alpaca(path: Path) -> list[AlpacaRow]:
    """Read rows in Alpaca form: a JSON list (.json) or one object per line (.jsonl). All keys are kept.

    Each row must have the strings `instruction` and `output`; a missing or null `input` becomes "".
    UserError names the row, counted from 1.
    """
    if path.suffix not in (".json", ".jsonl"):
        raise UserError(f"{path}: instructions must end in .json or .jsonl, got {path.suffix!r}; convert the file")
    rows = list(read_jsonl(path)) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(rows, list) or not rows:
        found = "an empty one" if rows == [] else type(rows).__name__
        raise UserError(f"{path}: must be a list of rows, got {found}; add rows with instruction, input, output")
    return [_alpaca_row(row, f"{path}, row {number}") for number, row in enumerate(rows, start=1)]


def _alpaca_row(row: Any, where: str) -> AlpacaRow:
    if not isinstance(row, dict):
        raise UserError(f"{where}: must be a JSON object, got {type(row).__name__}; correct the row")
    row = {**row, "input": "" if row.get("input") is None else row["input"]}
    for key in ("instruction", "input", "output"):
        if key not in row:
            raise UserError(f"{where}: {key!r} is missing, found {sorted(row)}; add it")
        if not isinstance(row[key], str):
            raise UserError(f"{where}: {key!r} must be a string, got {row[key]!r}; correct the row")
        _check_unicode(row[key], f"{where}, {key!r}")
    return cast(AlpacaRow, row)


def _check_unicode(text: str, where: str) -> None:
    """UserError for a lone surrogate: JSON can spell one (`\\ud800`), but no UTF-8 file can contain it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        got = repr(text[error.start])
        raise UserError(f"{where}: must be valid Unicode, got the lone surrogate {got}; correct the row") from None
