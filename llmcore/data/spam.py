"""Labelled messages: from a table to train, val and test. Any number of classes, not only spam and ham."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmcore.base.errors import UserError
from llmcore.base.seeds import numpy_generator
from llmcore.data.split import SPLITS, same_message, split_groups

if TYPE_CHECKING:
    import pandas as pd

BOOK_SEED = 123
BOOK_FRACTIONS = (0.1, 0.2)  # val, test


def messages(
    table: "pd.DataFrame", text_column: str, label_column: str, keep: Sequence[str] = ()
) -> tuple["pd.DataFrame", int]:
    """Return the columns text, label and `keep` of a table of strings, and how many rows had no text.

    Labels lose the space around them. Raises UserError for a missing column, a row without a label,
    an empty table or fewer than two classes.
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
    if len(labels) < 2:
        raise UserError(f"spam.label_column: {label_column!r} must have two classes or more, got only {labels[0]!r}")
    return frame, len(table) - len(frame)


def split_messages(
    frame: "pd.DataFrame", split: str, balance: str, val_fraction: float, test_fraction: float, seed: int
) -> dict[str, "pd.DataFrame"]:
    """Balance the classes, then divide the messages into train, val and test.

    `grouped` keeps messages that differ only in case, spacing or numbers in one split, and the
    shares of the classes as equal as that allows; rows keep their order. `book` is the split of
    *Build a Large Language Model (From Scratch)*, chapter 6, leaks included. Raises UserError when
    a class has too few rows to be in every split.
    """
    if split == "book":
        return _book_split(frame, balance, val_fraction, test_fraction)
    if balance == "undersample":
        frame = _undersample(frame, seed)
    keys = [same_message(text) for text in frame["text"]]
    names = split_groups(keys, list(frame["label"]), val_fraction, test_fraction, seed)
    parts = {name: frame[[found == name for found in names]] for name in SPLITS}
    _check_classes(frame, parts)
    return parts


def _undersample(frame: "pd.DataFrame", seed: int) -> "pd.DataFrame":
    """Cut every class to the size of the smallest, at random; the order of the rows stays."""
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
                    f"spam.split: class {label!r} must be in every split, its {rows} rows left {name} without one "
                    f"(equal messages stay together); add different messages, or merge or remove the class"
                )


def _book_split(
    frame: "pd.DataFrame", balance: str, val_fraction: float, test_fraction: float
) -> dict[str, "pd.DataFrame"]:
    """`create_balanced_dataset` and `random_split` of chapter 6, random_state=123 and order included."""
    import pandas as pd

    if balance != "undersample":
        raise UserError(f"spam.balance: must be 'undersample' when spam.split is 'book', got {balance!r}; set it so")
    if (val_fraction, test_fraction) != BOOK_FRACTIONS:
        got = f"{val_fraction} and {test_fraction}"
        raise UserError(f"spam.val_fraction, spam.test_fraction: spam.split 'book' fixes 0.1 and 0.2, got {got}")
    spam, ham = frame[frame["label"] == "spam"], frame[frame["label"] == "ham"]
    if len(spam) + len(ham) != len(frame) or len(spam) > len(ham):
        counts = frame["label"].value_counts().to_dict()
        raise UserError(f"spam.split: 'book' needs 'ham' and 'spam' alone, ham the larger, got {counts}; use 'grouped'")
    balanced = pd.concat([ham.sample(len(spam), random_state=BOOK_SEED), spam])
    shuffled = balanced.sample(frac=1, random_state=BOOK_SEED)
    train_end = int(len(shuffled) * 0.7)
    val_end = train_end + int(len(shuffled) * 0.1)
    parts = zip(SPLITS, (0, train_end, val_end), (train_end, val_end, len(shuffled)), strict=True)
    split = {name: shuffled.iloc[start:end] for name, start, end in parts}
    _check_classes(frame, split)
    return split
