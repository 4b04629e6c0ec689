"""Instruction rows in Alpaca form: from one list to train, val and test."""

from collections.abc import Sequence
from typing import Any

from llmcore.base.errors import UserError
from llmcore.data.split import SPLITS, same_text, split_groups

Row = dict[str, Any]

KEPT_KEYS = ("instruction", "input", "output", "kind", "checkable")
BOOK_FRACTIONS = (0.05, 0.1)  # val, test


def complete_rows(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """Return the rows that have an instruction and an output, and how many had not."""
    complete = [row for row in rows if row["instruction"].strip() and row["output"].strip()]
    if not complete:
        raise UserError(f"instructions: every one of {len(rows)} rows lacks an instruction or an output; add rows")
    return complete, len(rows) - len(complete)


def prompt_key(row: Row) -> str:
    """Return a key that rows share when they ask the same: instruction and input, but for case and spacing."""
    return f"{same_text(row['instruction'])}\n{same_text(row['input'])}"


def split_rows(
    rows: Sequence[Row], split: str, val_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[Row]]:
    """Divide the rows into train, val and test, in their order, keeping only the keys in KEPT_KEYS.

    `given` follows each row's own `split`; `grouped` draws, and rows that ask the same stay in one
    split; `book` is chapter 7's: the first 85% train, the next 10% test, the rest val. Raises
    UserError when a row has no usable `split`, or a split would be empty.
    """
    if split == "given":
        names = [_given(row, number) for number, row in enumerate(rows, start=1)]
    elif split == "grouped":
        names = split_groups([prompt_key(row) for row in rows], [""] * len(rows), val_fraction, test_fraction, seed)
    else:
        names = _book(len(rows), val_fraction, test_fraction)
    parts = {name: [_kept(row) for row, found in zip(rows, names, strict=True) if found == name] for name in SPLITS}
    for name, part in parts.items():
        if not part:
            raise UserError(
                f"instructions.split: {split!r} must leave rows in every split, {name} got none of {len(rows)}; "
                f"add rows that ask something else, or change the split"
            )
    return parts


def _given(row: Row, number: int) -> str:
    if row.get("split") not in SPLITS:
        raise UserError(
            f"instructions.split: 'given' needs a split (train, val or test) in each row, row {number} has "
            f"{row.get('split')!r}; add it, or set instructions.split to 'grouped'"
        )
    return row["split"]


def _book(count: int, val_fraction: float, test_fraction: float) -> list[str]:
    if (val_fraction, test_fraction) != BOOK_FRACTIONS:
        got = f"{val_fraction} and {test_fraction}"
        rule = "instructions.split 'book' fixes 0.05 and 0.1"
        raise UserError(f"instructions.val_fraction, instructions.test_fraction: {rule}, got {got}; set them so")
    train, test = int(count * 0.85), int(count * 0.1)
    return ["train"] * train + ["test"] * test + ["val"] * (count - train - test)


def _kept(row: Row) -> Row:
    return {key: row[key] for key in KEPT_KEYS if key in row}
