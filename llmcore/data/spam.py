"""Labelled texts: from raw tables to train, val and test. Any number of classes, not only spam and ham."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llmcore.base.errors import UserError
from llmcore.base.rows import LabelledRow
from llmcore.base.seeds import numpy_generator
from llmcore.base.text import is_label
from llmcore.data.audit import Entry, audit_splits, class_counts
from llmcore.data.meta import META_FILE, check_counts
from llmcore.data.prepared import Prepared
from llmcore.data.reading import read_table
from llmcore.data.split import SPLITS, SplitParams, normalise_message, split_groups

if TYPE_CHECKING:
    import pandas as pd

Parts = tuple[dict[str, "pd.DataFrame"], dict[str, int]]  # rows by split, counts of what was read

BOOK_SEED = 123
BOOK_FRACTIONS = (0.1, 0.2)  # val, test


class MessageParams(SplitParams, Protocol):
    """The section `spam` of params.yaml."""

    @property
    def text_column(self) -> str: ...
    @property
    def label_column(self) -> str: ...
    @property
    def balance(self) -> str: ...


def prepare_messages(raw: Path, meta: Mapping[str, Any], params: MessageParams, seed: int) -> Prepared[LabelledRow]:
    """Read the tables that `meta`, the meta.json of the folder `raw`, names; divide the rows and audit the splits.

    The columns' names in `params` are those of the user's own tables. UserError if a table, a row or the split is
    not usable.
    """
    if ("files" in meta) != (params.split == "files"):
        rule = "must be 'files' exactly when sources.spam.path is a folder of train and test tables"
        raise UserError(f"spam.split: {rule}, got {params.split!r}; correct either")
    read = _read_files if params.split == "files" else _read_and_split
    parts, counts = read(raw, meta, params, seed)
    splits = {name: [_row(record) for record in part.to_dict("records")] for name, part in parts.items()}
    entries = {name: [_entry(row) for row in rows] for name, rows in splits.items()}
    audit = audit_splits(entries)
    classes = class_counts(entries)
    metrics = audit.metrics | counts | {"rows": sum(map(len, splits.values())), "classes": len(classes["train"])}
    return Prepared(splits, audit, classes, metrics)


def _read_and_split(raw: Path, meta: Mapping[str, Any], params: MessageParams, seed: int) -> Parts:
    kind = meta["kind"]
    # The book reads its file with pandas' default quoting, which joins rows: two messages are lost.
    columns = (params.text_column, params.label_column) if kind == "local" else ("text", "label")
    table = read_table(raw / meta["file"], kind != "sms-spam" or params.split == "book", columns)
    unquoted = read_table(raw / meta["file"], quoting=False) if kind == "sms-spam" else table
    check_counts(raw / META_FILE, meta, rows=len(unquoted))
    frame, empty_rows = messages(table, *columns, ["p_spam"] if kind == "world" else [])
    parts = split_messages(frame, params.split, params.balance, params.val_fraction, params.test_fraction, seed)
    counts = {"read_rows": len(table), "empty_rows": empty_rows}
    return parts, counts | ({"swallowed_rows": len(unquoted) - len(table)} if kind == "sms-spam" else {})


def _read_files(raw: Path, meta: Mapping[str, Any], params: MessageParams, seed: int) -> Parts:
    """Return the splits that come with the data; rows never move between them, and `balance` cuts train alone."""
    columns = (params.text_column, params.label_column)
    parts = {}
    counts = {"read_rows": 0, "empty_rows": 0}
    for file in meta["files"]:
        table = read_table(raw / file["name"], columns=columns)
        check_counts(raw / META_FILE, file, rows=len(table))
        min_classes = 2 if file["split"] == "train" else 1
        try:
            parts[file["split"]], empty_rows = messages(table, *columns, min_classes=min_classes)
        except UserError as error:
            raise UserError(f"{file['name']}: {error}") from None
        counts["read_rows"] += len(table)
        counts["empty_rows"] += empty_rows
    _check_known_classes(parts)
    if params.balance == "undersample":
        parts["train"] = _undersample(parts["train"], seed)
    if "val" not in parts:
        parts |= _split_off_val(parts["train"], params.val_fraction, seed)
    untested = set(parts["train"]["label"]) - set(parts["test"]["label"])
    return {name: parts[name] for name in SPLITS}, counts | {"untested_classes": len(untested)}


def _check_known_classes(parts: Mapping[str, "pd.DataFrame"]) -> None:
    """UserError for a class that only val or test has: no classifier can learn it."""
    known = set(parts["train"]["label"])
    for name, part in parts.items():
        if unknown := sorted(set(part["label"]) - known):
            rule = f"class {unknown[0]!r} of {name} must be in train too"
            more = f" ({len(unknown)} classes are not)" if len(unknown) > 1 else ""
            raise UserError(f"spam.split: {rule}{more}; add rows of it to train, or remove those in {name}")


def _split_off_val(frame: "pd.DataFrame", fraction: float, seed: int) -> dict[str, "pd.DataFrame"]:
    """Divide training rows into train and val; a class of one group of equal texts stays in train."""
    keys = [normalise_message(text) for text in frame["text"]]
    names = split_groups(keys, list(frame["label"]), fraction, 0, seed)
    parts = {name: frame[[found == name for found in names]] for name in ("train", "val")}
    if parts["val"].empty:
        rule = f"must leave a row for validation, got {fraction} of {len(frame)} training rows"
        raise UserError(f"spam.val_fraction: {rule}; raise it, or add a table val")
    return parts


def _row(record: Mapping[Any, Any]) -> LabelledRow:
    row: LabelledRow = {"text": record["text"], "label": record["label"]}
    if "p_spam" in record:
        row["p_spam"] = float(record["p_spam"])  # every value of a table is a string
    return row


def _entry(row: LabelledRow) -> Entry:
    return Entry(row["text"], normalise_message(row["text"]), row["label"])


def messages(
    table: "pd.DataFrame", text_column: str, label_column: str, keep: Sequence[str] = (), min_classes: int = 2
) -> tuple["pd.DataFrame", int]:
    """Return the columns text, label and `keep` of a table of strings, and the number of rows without text.

    Rows without text are left out; white space around labels is removed. UserError for a missing column, a
    row without a label, a table without text, or fewer than `min_classes`, at most two.
    """
    for key, column in (("spam.text_column", text_column), ("spam.label_column", label_column)):
        if column not in table.columns:
            found = ", ".join(repr(str(name)) for name in table.columns)
            raise UserError(f"{key}: must be a column of the table, got {column!r}; the table has {found or 'none'}")
    frame = table[[text_column, label_column, *keep]].set_axis(["text", "label", *keep], axis=1)
    frame["label"] = frame["label"].str.strip()
    frame = frame[frame["text"].str.strip() != ""]
    if frame.empty:
        raise UserError(
            f"spam.text_column: the table must have rows with text in {text_column!r}, found none; add rows"
        )
    unlabelled = frame.index[frame["label"] == ""]
    if len(unlabelled):
        raise UserError(f"spam.label_column: row {unlabelled[0] + 1} has no {label_column!r}; add it or remove the row")
    labels = sorted(set(frame["label"]))
    if odd := [label for label in labels if not is_label(label)]:
        raise UserError(f"spam.label_column: a class must have no control character, got {odd[0]!r}; rename the class")
    if len(labels) < min_classes:
        raise UserError(
            f"spam.label_column: {label_column!r} must have two classes or more, got only {labels[0]!r}; add rows"
        )
    return frame, len(table) - len(frame)


def split_messages(
    frame: "pd.DataFrame", split: str, balance: str, val_fraction: float, test_fraction: float, seed: int
) -> dict[str, "pd.DataFrame"]:
    """Balance the classes, then divide the texts into train, val and test.

    `grouped` keeps texts that differ only in case, spacing or numbers in one split, and gives every
    split the same shares of classes, as far as that allows; rows keep their order. `book` is the split of
    *Build a Large Language Model (From Scratch)*, chapter 6, leaks included. UserError if a class has too
    few rows to be in every split.
    """
    if split == "book":
        return _book_split(frame, balance, val_fraction, test_fraction)
    if balance == "undersample":
        frame = _undersample(frame, seed)
    keys = [normalise_message(text) for text in frame["text"]]
    names = split_groups(keys, list(frame["label"]), val_fraction, test_fraction, seed)
    parts = {name: frame[[found == name for found in names]] for name in SPLITS}
    _check_classes(frame, parts)
    return parts


def _undersample(frame: "pd.DataFrame", seed: int) -> "pd.DataFrame":
    """Reduce every class to the size of the smallest by a random choice; rows keep their order."""
    positions = frame.groupby("label", sort=True).indices
    smallest = min(len(rows) for rows in positions.values())
    kept = [
        row
        for label, rows in positions.items()
        for row in numpy_generator(seed, "undersample", str(label)).permutation(rows)[:smallest]
    ]
    return frame.iloc[sorted(kept)]


def _check_classes(frame: "pd.DataFrame", parts: dict[str, "pd.DataFrame"]) -> None:
    for label, rows in frame["label"].value_counts(sort=False).sort_index().items():
        for name, part in parts.items():
            if label not in set(part["label"]):
                raise UserError(
                    f"spam.split: class {label!r} must be in every split, but none of its {rows} rows is in {name} "
                    f"(equal texts share a split); add different texts, or merge or remove the class"
                )


def _book_split(
    frame: "pd.DataFrame", balance: str, val_fraction: float, test_fraction: float
) -> dict[str, "pd.DataFrame"]:
    """Split as `create_balanced_dataset` and `random_split` of chapter 6 do, with random_state=123."""
    import pandas as pd

    if balance != "undersample":
        raise UserError(f"spam.balance: must be 'undersample' when spam.split is 'book', got {balance!r}; correct it")
    if (val_fraction, test_fraction) != BOOK_FRACTIONS:
        got = f"{val_fraction} and {test_fraction}"
        rule = "must be 0.1 and 0.2 when spam.split is 'book'"
        raise UserError(f"spam.val_fraction, spam.test_fraction: {rule}, got {got}; correct them")
    spam = frame[frame["label"] == "spam"]
    ham = frame[frame["label"] == "ham"]
    if len(spam) + len(ham) != len(frame) or len(spam) > len(ham):
        counts = frame["label"].value_counts().to_dict()
        raise UserError(
            f"spam.split: 'book' needs the classes 'ham' and 'spam', ham the larger, got {counts}; use 'grouped'"
        )
    balanced = pd.concat([ham.sample(len(spam), random_state=BOOK_SEED), spam])
    shuffled = balanced.sample(frac=1, random_state=BOOK_SEED)
    train_end = int(len(shuffled) * 0.7)
    val_end = train_end + int(len(shuffled) * 0.1)
    parts = zip(SPLITS, (0, train_end, val_end), (train_end, val_end, len(shuffled)), strict=True)
    split = {name: shuffled.iloc[start:end] for name, start, end in parts}
    _check_classes(frame, split)
    return split
