"""Instruction rows in Alpaca form: from a raw file to train, val and test."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from llmcore.base.errors import UserError
from llmcore.base.rows import InstructionRow
from llmcore.data.audit import Entry, audit_splits
from llmcore.data.meta import META_FILE, check_counts
from llmcore.data.prepared import Prepared
from llmcore.data.reading import AlpacaRow, read_alpaca
from llmcore.data.split import SPLITS, SplitParams, normalise_text, split_groups

KEPT_KEYS = ("instruction", "input", "output", "kind", "checkable")
BOOK_FRACTIONS = (0.05, 0.1)  # val, test


def prepare_instructions(
    raw: Path, meta: Mapping[str, Any], params: SplitParams, seed: int
) -> Prepared[InstructionRow]:
    """Read the file that `meta`, the meta.json of the folder `raw`, names; divide its rows and audit the splits.

    UserError if the file, a row or the split is not usable.
    """
    read = read_alpaca(raw / meta["file"])
    check_counts(raw / META_FILE, meta, rows=len(read))
    rows, empty_rows = complete_rows(read)
    splits = split_rows(rows, params.split, params.val_fraction, params.test_fraction, seed)
    audit = audit_splits({name: [_entry(row) for row in part] for name, part in splits.items()}, classes=False)
    return Prepared(splits, audit, {}, audit.metrics | {"empty_rows": empty_rows})


def complete_rows(rows: Sequence[AlpacaRow]) -> tuple[list[AlpacaRow], int]:
    """Return the rows that have both an instruction and an output, and the number of the others."""
    complete = [row for row in rows if row["instruction"].strip() and row["output"].strip()]
    if not complete:
        raise UserError(f"instructions: all {len(rows)} rows lack an instruction or an output; add complete rows")
    return complete, len(rows) - len(complete)


def prompt_key(row: InstructionRow) -> str:
    """Return the normalised instruction and input: rows that ask the same have the same key."""
    return f"{normalise_text(row['instruction'])}\n{normalise_text(row['input'])}"


def split_rows(
    rows: Sequence[AlpacaRow], split: str, val_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[InstructionRow]]:
    """Divide the rows into train, val and test; they keep their order and, of their keys, those in KEPT_KEYS.

    `given` follows each row's own `split`. `grouped` draws, and rows that ask the same get the same split.
    `book` is the split of chapter 7: the first 85% train, the next 10% test, the rest val. UserError if a row
    has no valid `split`, or if a split would be empty.
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
                f"add rows with other instructions, or change the split"
            )
    return parts


def _given(row: AlpacaRow, number: int) -> str:
    split = row.get("split")
    if split not in SPLITS:
        raise UserError(
            f"instructions.split: 'given' needs a split (train, val or test) in each row, row {number} has "
            f"{split!r}; add it, or set instructions.split to 'grouped'"
        )
    return split


def _book(count: int, val_fraction: float, test_fraction: float) -> list[str]:
    if (val_fraction, test_fraction) != BOOK_FRACTIONS:
        got = f"{val_fraction} and {test_fraction}"
        rule = "must be 0.05 and 0.1 when instructions.split is 'book'"
        raise UserError(f"instructions.val_fraction, instructions.test_fraction: {rule}, got {got}; correct them")
    train = int(count * 0.85)
    test = int(count * 0.1)
    return ["train"] * train + ["test"] * test + ["val"] * (count - train - test)


def _kept(row: AlpacaRow) -> InstructionRow:
    values: Mapping[str, Any] = row
    return cast(InstructionRow, {key: values[key] for key in KEPT_KEYS if key in values})


def _entry(row: InstructionRow) -> Entry:
    """Return a row as the audit sees it: equal prompts are leaks whatever their outputs, which are the labels."""
    return Entry(f"{row['instruction']}\n{row['input']}", prompt_key(row), row["output"], answer=row["output"])
