"""Classify the texts of a table: the same rows out, with their classes, in memory that does not grow with the file."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from llmcore.base.errors import UserError
from llmcore.base.progress import Bar
from llmcore.data.table_rows import table_rows, table_writer, text_cell
from llmcore.evaluate.classification import MAX_PROBABILITY_COLUMNS
from llmcore.generate.classify import class_probabilities, text_ids
from llmcore.generate.open import open_classifier
from llmcore.model.classifier import SequenceClassifier
from llmcore.tokenizer.tokenizer import Tokenizer

BATCH_SIZE = 32
CHUNK_ROWS = 128  # read, sorted by length and classified together
DEFAULT_TOP_K = 5  # classes written of each text, where there are too many for a column each

Item = TypeVar("Item")


@dataclass
class Counts:
    """What happened to the rows."""

    rows: int = 0
    cut: int = 0
    empty: int = 0
    labels: Counter[str] = field(default_factory=Counter)


def classify_file(model_folder: Path, file: Path, text_column: str, out: Path, top_k: int | None) -> str:
    """Write the rows of `file` with the class of each text to `out`, and return what was done.

    Before the model is opened all rows are read once: a mistake in the last one is found at once. Rows without text
    get no class. A column of the file that has the name of an added one is kept as `input_<name>`.
    """
    check_out(file, out)
    columns, n_rows = scan(file, text_column)
    model, tokenizer = open_classifier(model_folder)
    if top_k is None:
        top_k = 0 if len(model.labels) <= MAX_PROBABILITY_COLUMNS else DEFAULT_TOP_K
    added = list(class_cells(model.labels, np.zeros(len(model.labels)), top_k))
    kept = kept_names(file, columns, added)
    counts = Counts()
    with (
        table_writer(out, [*kept.values(), *added]) as write,
        Bar("classify", n_rows, " texts", enabled=True) as bar,
    ):
        for rows in parts(table_rows(file), CHUNK_ROWS):
            texts = [text_cell(row, text_column, str(file)) for row in rows]
            for row, cells in zip(rows, classified(model, tokenizer, texts, top_k, counts), strict=True):
                write({kept[column]: value for column, value in row.items()} | (cells or dict.fromkeys(added)))
            bar.advance(len(rows))
    return "\n".join([f"{out}: the rows of {file}, classified by {model_folder}", *lines(model, counts, kept)])


def check_out(file: Path, out: Path) -> None:
    """UserError if the result cannot stand at `out`: found now, not when everything is classified."""
    if out.is_dir():
        raise UserError(f"--out: must be a file, got the folder {str(out)!r}; add a file's name")
    if out.exists() and file.exists() and out.samefile(file):
        raise UserError(f"--out: must be another file than --file, got {str(out)!r} as both; choose another")


def scan(file: Path, text_column: str) -> tuple[list[str], int]:
    """Return the columns of a table and the number of its rows; UserError if one is malformed, or none has text."""
    columns: dict[str, None] = {}
    n_rows = 0
    has_text = False
    for n_rows, row in enumerate(table_rows(file), start=1):
        columns |= dict.fromkeys(row)
        has_text |= bool(text_cell(row, text_column, f"{file}, row {n_rows}").strip())
    if not has_text:
        raise UserError(f"{file}: must have text in {text_column!r}, got empty texts alone; name another column")
    return list(columns), n_rows


def class_cells(labels: Sequence[str], chances: np.ndarray, top_k: int) -> dict[str, Any]:
    """Return the cells that a text gets: `label`, `probability`, and `p_<class>` of each class.

    With `top_k` above 0 in place of a column per class `label_2`, `probability_2` and so on of the `top_k` likeliest.
    `chances` is (labels,).
    """
    cells: dict[str, Any] = {}
    for place, number in enumerate(np.argsort(-chances, kind="stable")[: max(top_k, 1)], start=1):
        ending = f"_{place}" if place > 1 else ""
        cells |= {f"label{ending}": labels[number], f"probability{ending}": round(float(chances[number]), 6)}
    if not top_k:
        cells |= {f"p_{label}": round(float(chance), 6) for label, chance in zip(labels, chances, strict=True)}
    return cells


def classified(
    model: SequenceClassifier, tokenizer: Tokenizer, texts: Sequence[str], top_k: int, counts: Counts
) -> Iterator[dict[str, Any] | None]:
    """Yield the cells of each text, None where it is empty, and count them."""
    full = [text for text in texts if text.strip()]
    ids, cut = text_ids(model, tokenizer, full)
    chances = class_probabilities(model, ids, batch_size=BATCH_SIZE, pad_id=tokenizer.pad_id).numpy()
    found = (class_cells(model.labels, row, top_k) for row in chances)
    counts.rows += len(texts)
    counts.cut += sum(cut)
    counts.empty += len(texts) - len(full)
    for text in texts:
        cells = next(found) if text.strip() else None
        counts.labels.update([cells["label"]] if cells else [])
        yield cells


def kept_names(file: Path, columns: Sequence[str], added: Sequence[str]) -> dict[str, str]:
    """Return under which name each column of the file is written; UserError if two would have the same."""
    kept = {column: f"input_{column}" if column in added else column for column in columns}
    taken = Counter([*kept.values(), *added])
    if twice := [column for column, name in kept.items() if taken[name] > 1]:
        rule = f"the column {twice[0]!r} would be written as {kept[twice[0]]!r}, which there is too"
        raise UserError(f"{file}: {rule}; rename either")
    return kept


def lines(model: SequenceClassifier, counts: Counts, kept: Mapping[str, str]) -> Iterator[str]:
    """Yield what a user should know about the rows, one line for each fact."""
    shown = [f"{label!r} {number:,}" for label, number in counts.labels.most_common(MAX_PROBABILITY_COLUMNS)]
    more = ["..."] * (len(counts.labels) > len(shown))
    yield f"{counts.rows:,} rows: {', '.join([*shown, *more])}"
    if counts.cut:
        yield f"texts longer than the model's {model.max_tokens} tokens were cut: {counts.cut:,}"
    if counts.empty:
        yield f"texts that are empty got no class: {counts.empty:,}"
    if renamed := [f"{column} -> {name}" for column, name in kept.items() if column != name]:
        yield f"columns of the file that have the name of an added one were renamed: {', '.join(renamed)}"


def parts(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`; the last may be shorter."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
