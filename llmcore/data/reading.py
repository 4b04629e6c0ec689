"""Read the user's files: one text, tables, rows in Alpaca form. UserError with the place for everything malformed."""

import csv
import io
import json
import reprlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, cast

from llmcore.base.errors import UserError
from llmcore.base.files import read_bytes, read_errors, read_json, read_jsonl
from llmcore.base.rows import InstructionRow
from llmcore.base.text import checked_input, normalise_input

if TYPE_CHECKING:
    import pandas as pd

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
ALPACA_SUFFIXES = (".json", ".jsonl")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
ALPACA_TEXTS = ("instruction", "input", "output", "kind", "split")  # what is used of a row, beside `checkable`
CHAT_KEYS = ("conversations", "conversation", "messages")  # of a row that holds a whole chat
SPLIT_NAMES = {"train": "train", "val": "val", "validation": "val", "test": "test"}  # of a table -> its split
SMS_COLUMNS = ["label", "text"]  # the SMS Spam Collection has neither header nor suffix


class AlpacaRow(InstructionRow):
    """A row of a source: what is prepared, and the split that a row may name. Other keys may exist too."""

    split: NotRequired[str]  # not checked yet


def check_suffix(path: Path, suffixes: Sequence[str], what: str) -> str:
    """Return the suffix of a file in lower case; UserError if it is none of `suffixes`."""
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        rule = f"must end in {', '.join(suffixes[:-1])} or {suffixes[-1]}, got {path.name!r}"
        raise UserError(f"{what}: {rule}; convert the file, or rename it if it has that form")
    return suffix


def split_tables(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the tables of a folder's splits, train, val if there is one, test, and the names of what else it has.

    A table is named after its split, as on the Hugging Face hub: `train.csv`, `validation.jsonl`, `test.tsv`.
    UserError if train or test has no table, or a split has two.
    """
    with read_errors(folder):
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    tables: dict[str, Path] = {}
    rest = []
    for entry in entries:
        split = SPLIT_NAMES.get(entry.stem.lower())
        if split is None or entry.suffix.lower() not in TABLE_SUFFIXES or not entry.is_file():
            rest.append(f"{entry.name}/" if entry.is_dir() else entry.name)
        elif split in tables:
            raise UserError(f"{entry}: {split} must be one table, {tables[split].name} is one too; remove either")
        else:
            tables[split] = entry
    for split in ("train", "test"):
        if split not in tables:
            rule = f"a folder must have the tables train and test (.csv, .tsv or .jsonl), got no {split}"
            raise UserError(f"{folder}: {rule}; add it, or name one table in sources.spam.path")
    return {split: tables[split] for split in ("train", "val", "test") if split in tables}, rest


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file as `normalise_input` does; UserError if empty or binary."""
    return decode_text(path, read_bytes(path))


def decode_text(path: Path, data: bytes) -> str:
    """Return the text of a file's bytes, as `read_text` does."""
    try:
        text = normalise_input(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be UTF-8 text, byte {error.start} is not; convert or remove the file") from None
    if "\0" in text:
        raise UserError(f"{path}: must be text, found a zero byte at {text.index(chr(0))}; convert or remove the file")
    if not text.strip():
        raise UserError(f"{path}: must not be empty, got {len(data)} bytes of white space; add text or remove the file")
    return text


def read_table(path: Path, quoting: bool = True, columns: Sequence[str] = ()) -> "pd.DataFrame":
    """Read a .csv, .tsv or .jsonl table, or the SMS Spam Collection (no suffix), every value as a string.

    The strings "NA" and "null" are ordinary text; a missing value is an empty string. With `quoting`
    False, quotation marks are ordinary characters. UserError if one of `columns` stands twice in the table, or
    has a list or an object as value.
    """
    if path.suffix and check_suffix(path, TABLE_SUFFIXES, str(path)) == ".jsonl":
        return _table_of_rows(path, columns)
    return _table_of_text(path, quoting, columns)


def _table_of_text(path: Path, quoting: bool, columns: Sequence[str]) -> "pd.DataFrame":
    import pandas as pd

    text = read_text(path)
    header: dict[str, Any] = {} if path.suffix else {"header": None, "names": SMS_COLUMNS}
    options: dict[str, Any] = {
        "sep": SEPARATORS.get(path.suffix.lower(), "\t"),
        "quoting": csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
        "dtype": str,
        "keep_default_na": False,
        "index_col": False,
    }
    try:
        with warnings.catch_warnings():
            # If the first row is longer than the header, pandas drops fields and only warns.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table: pd.DataFrame = pd.read_csv(io.StringIO(text), **header, **options)
            names = pd.read_csv(io.StringIO(text), header=None, nrows=1, **options) if path.suffix else table[:0]
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: every row must have as many fields as the header ({reason}); put text that contains "
            f"the separator or line ends in quotation marks"
        ) from None
    # pandas renames a column that stands twice
    if twice := [name for name in columns if names.to_numpy().flatten().tolist().count(name) > 1]:
        raise UserError(f"{path}: the header must have {twice[0]!r} once, got it twice; rename or remove one")
    return table.map(normalise_input)


def _table_of_rows(path: Path, columns: Sequence[str]) -> "pd.DataFrame":
    import pandas as pd

    rows = []
    for number, row in enumerate(read_jsonl(path), start=1):
        for column in columns:
            if isinstance(value := row.get(column), list | dict):
                got = reprlib.repr(value)
                raise UserError(f"{path}, row {number}: {column!r} must be a string, got {got}; correct the row")
        rows.append(
            {key: checked_input(_as_text(value), f"{path}, row {number}, {key!r}") for key, value in row.items()}
        )
    return pd.DataFrame(rows, dtype=str).fillna("")


def _as_text(value: Any) -> str:
    """Return a cell: a missing value is empty, and so is a list or an object, which no column here may be."""
    if value is None or isinstance(value, list | dict):
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def read_alpaca(path: Path) -> list[AlpacaRow]:
    """Read rows in Alpaca form: a JSON list (.json) or one object per line (.jsonl). All keys with a value are kept.

    Each row must have the strings `instruction` and `output`; a missing `input` becomes "". Null is missing.
    UserError names the row, counted from 1.
    """
    suffix = check_suffix(path, ALPACA_SUFFIXES, str(path))
    rows = list(read_jsonl(path)) if suffix == ".jsonl" else read_json(path)
    if not isinstance(rows, list) or not rows:
        found = "an empty one" if rows == [] else type(rows).__name__
        raise UserError(f"{path}: must be a list of rows, got {found}; add rows with instruction, input, output")
    return [_alpaca_row(row, f"{path}, row {number}") for number, row in enumerate(rows, start=1)]


def _alpaca_row(row: Any, where: str) -> AlpacaRow:
    if not isinstance(row, dict):
        raise UserError(f"{where}: must be a JSON object, got {type(row).__name__}; correct the row")
    given = {key: value for key, value in row.items() if value is not None}
    for key in ("instruction", "output"):
        if key not in given:
            raise UserError(f"{where}: {key!r} is missing, found {reprlib.repr(sorted(given))}; {_remedy(given)}")
    checked = {"input": "", **given}
    for key in ALPACA_TEXTS:
        if key in checked:
            if not isinstance(checked[key], str):
                got = reprlib.repr(checked[key])
                raise UserError(f"{where}: {key!r} must be a string, got {got}; correct the row")
            checked[key] = checked_input(checked[key], f"{where}, {key!r}")
    if not isinstance(checked.get("checkable", True), bool):
        got = reprlib.repr(checked["checkable"])
        raise UserError(f"{where}: 'checkable' must be true or false, got {got}; correct the row")
    return cast(AlpacaRow, checked)


def _remedy(row: dict[str, Any]) -> str:
    """Return what to do about a row that lacks a key."""
    if chat := [key for key in CHAT_KEYS if key in row]:
        return f"{chat[0]!r} holds a chat: convert each question and its answer to an instruction and its output"
    return "add it"
