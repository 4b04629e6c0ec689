"""Evaluate a model on any file, a classifier on a labelled table: scores with intervals, baselines, leaks, pictures."""

from pathlib import Path

import numpy as np

from llmcore.base.containers import chunks
from llmcore.base.errors import UserError
from llmcore.base.files import user_errors, write_csv, write_json
from llmcore.base.progress import Bar
from llmcore.base.rows import LabelledRow
from llmcore.base.seeds import numpy_generator
from llmcore.data.split import normalise_message, split_groups
from llmcore.data.table_rows import table_rows, text_cell
from llmcore.evaluate.baselines import most_frequent
from llmcore.evaluate.classification import ClassifierResults, check_labels, evaluate_classifier
from llmcore.evaluate.scores import Uncertainty
from llmcore.generate.classify import class_probabilities, text_ids
from llmcore.generate.kind import opens_as_classifier
from llmcore.generate.open import open_classifier
from llmcore.model.classifier import SequenceClassifier
from llmcore.report.draw import draw_classes, draw_confusion
from llmcore.report.evaluation import Facts, evaluation_screen
from llmcore.run.classify_file import BATCH_SIZE, CHUNK_ROWS
from llmcore.run.evaluate_text import evaluate_text
from llmcore.tokenizer.tokenizer import Tokenizer

HELD_OUT_FRACTION = 0.2  # of the training rows, to choose TF-IDF's settings
PICTURES = ("confusion.png", "confused_pairs.png", "classes.png")


def evaluate_file(
    model: Path, file: Path, columns: tuple[str, str], train_file: Path | None, out: Path, confidence: float
) -> str:
    """Evaluate a classifier on a labelled table, a language model on a text; return a screen of the results.

    `columns` are those of text and label, in `file` and in `train_file`. The results are written into `out`.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: must be a folder, got the file {str(out)!r}; name a folder")
    if opens_as_classifier(model):
        return evaluate_table(model, file, columns, train_file, out, confidence)
    if train_file:
        raise UserError(f"--train: is for classifiers, and {model} is a language model; leave it out")
    return evaluate_text(model, file, out, confidence)


def evaluate_table(
    model_folder: Path, file: Path, columns: tuple[str, str], train_file: Path | None, out: Path, confidence: float
) -> str:
    """Evaluate a classifier on the rows of `file`, write the results into `out`, and return a screen of them.

    The baselines learn from `train_file`; without it the only one is the most frequent label of `file` itself, and
    leaks are unknown. Rows without text are left out.
    """
    test, empty_rows = labelled_rows(file, columns)
    train = labelled_rows(train_file, columns)[0] if train_file else []
    model, tokenizer = open_classifier(model_folder)
    check_labels((row["label"] for row in test), model.labels, str(file))
    check_labels((row["label"] for row in train), model.labels, str(train_file))
    probabilities, cut_rows = classify_rows(model, tokenizer, test)
    uncertainty = Uncertainty(confidence, numpy_generator(0, "bootstrap"))  # the same files give the same numbers
    results = evaluate_classifier(
        train, folds_of(train), test, model.labels, probabilities, normalise_message, uncertainty
    )
    results.metrics.update(empty_rows=empty_rows, cut_rows=cut_rows)
    write_results(out, results)
    return evaluation_screen(
        results,
        Facts(
            model=str(model_folder),
            file=str(file),
            out=str(out),
            confidence=confidence,
            max_tokens=model.max_tokens,
            most_frequent=most_frequent([row["label"] for row in test]),
            train_file=str(train_file) if train_file else "",
            train_rows=len(train),
        ),
    )


def labelled_rows(file: Path, columns: tuple[str, str]) -> tuple[list[LabelledRow], int]:
    """Return the rows that have text, and the number of those that have none; UserError for a row without label."""
    text_column, label_column = columns
    rows: list[LabelledRow] = []
    empty_rows = 0
    for number, row in enumerate(table_rows(file), start=1):
        where = f"{file}, row {number}"
        text = text_cell(row, text_column, where)
        label = text_cell(row, label_column, where).strip()
        if not text.strip():
            empty_rows += 1
        elif not label:
            raise UserError(f"{where}: must have a label in {label_column!r}, got none; add it or remove the row")
        else:
            rows.append({"text": text, "label": label})
    if not rows:
        raise UserError(f"{file}: must have text in {text_column!r}, got empty texts alone; name another column")
    return rows, empty_rows


def folds_of(train: list[LabelledRow]) -> list[tuple[list[LabelledRow], list[LabelledRow]]]:
    """Return one fold of the training rows, with equal texts on one side; without a row to hold out, all on both."""
    keys = [normalise_message(row["text"]) for row in train]
    names = split_groups(keys, [row["label"] for row in train], HELD_OUT_FRACTION, 0.0, seed=0)
    parts = {name: [row for row, of in zip(train, names, strict=True) if of == name] for name in ("train", "val")}
    return [(parts["train"], parts["val"])] if all(parts.values()) else [(train, train)]


def classify_rows(model: SequenceClassifier, tokenizer: Tokenizer, rows: list[LabelledRow]) -> tuple[np.ndarray, int]:
    """Return the probability of each class, (rows, labels), and the number of texts that were cut."""
    found = []
    cut_rows = 0
    with Bar("classify", len(rows), " texts", enabled=True) as bar:
        for part in chunks(rows, CHUNK_ROWS):
            ids, cut = text_ids(model, tokenizer, [row["text"] for row in part])
            found.append(class_probabilities(model, ids, batch_size=BATCH_SIZE, pad_id=tokenizer.pad_id).numpy())
            cut_rows += sum(cut)
            bar.advance(len(part))
    return np.concatenate(found), cut_rows


def write_results(out: Path, results: ClassifierResults) -> None:
    """Write metrics, tables and pictures into a folder; its other files stay."""
    write_json(out / "metrics.json", results.metrics)
    for name in ("predictions", "errors", "models", "classes"):
        write_csv(out / f"{name}.csv", getattr(results, name))
    with user_errors(out):
        for name in PICTURES:
            (out / name).unlink(missing_ok=True)
    draw_confusion("evaluate", results.metrics, out / "predictions.csv", out)
    draw_classes("evaluate", results.metrics, out / "classes.csv", out)
