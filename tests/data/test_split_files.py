"""Splits that come with the data, `spam.split: files`: they are kept, and what is wrong with them is said."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from data.offline import no_download

from llmcore.base.errors import UserError
from llmcore.base.files import read_json
from llmcore.base.rows import LabelledRow
from llmcore.data.prepared import Prepared
from llmcore.data.raw import write_raw_spam
from llmcore.data.spam import prepare_messages

MIRROR = Path(os.environ.get("LLMCORE_MIRROR", "?"))
LABELS = ["refund", "card", "rate"]
Rows = list[tuple[str, str]]
Prepare = Callable[..., Prepared[LabelledRow]]


def rows(begin: int, end: int, labels: list[str] = LABELS) -> Rows:
    return [(f"{label} {'x' * number}", label) for number in range(begin, end) for label in labels]


def write(path: Path, table: Rows) -> None:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in table))
    else:
        separator = "," if path.suffix.lower() == ".csv" else "\t"
        path.write_text("".join(separator.join(row) + "\n" for row in [("text", "label"), *table]))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of the user's: 60 rows to train in one format, 15 of the test in another."""
    write(tmp_path / "own/train.csv", rows(1, 21))
    write(tmp_path / "own/Test.TSV", rows(31, 36))
    return tmp_path / "own"


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    def prepared(path: Path, split: str = "files", balance: str = "none", **changes: Any) -> Prepared[LabelledRow]:
        raw = tmp_path / f"raw {len(list(tmp_path.iterdir()))}"
        raw.mkdir()
        meta = write_raw_spam(raw, "local", path, 1, 1, no_download)
        assert read_json(raw / "meta.json") == meta
        values = {"text_column": "text", "label_column": "label", "split": split, "balance": balance}
        params = SimpleNamespace(**{**values, "val_fraction": 0.1, "test_fraction": 0.2, **changes})
        return prepare_messages(raw, meta, params, seed=7)

    return prepared


def texts(prepared: Prepared[LabelledRow], split: str) -> Rows:
    return [(row["text"], row["label"]) for row in prepared.splits[split]]


def test_the_raw_folder_holds_the_files_and_meta_json_names_them(own: Path, tmp_path: Path, capsys: Any) -> None:
    write(own / "validation.jsonl", rows(25, 27))
    (own / "README.md").write_text("about")
    (tmp_path / "raw").mkdir()
    meta = write_raw_spam(tmp_path / "raw", "local", own, 1, 1, no_download)
    assert [(file["split"], file["name"], file["rows"]) for file in meta["files"]] == [
        ("train", "train.csv", 60),
        ("val", "val.jsonl", 6),
        ("test", "test.tsv", 15),
    ]
    assert meta["rows"] == 81
    assert (tmp_path / "raw/test.tsv").read_bytes() == (own / "Test.TSV").read_bytes()
    assert "1 left out, only its tables train, val and test are read: README.md" in capsys.readouterr().out


def test_given_splits_are_kept_row_by_row(own: Path, prepare: Prepare) -> None:
    write(own / "val.csv", rows(25, 27))
    prepared = prepare(own)
    assert texts(prepared, "train") == rows(1, 21)
    assert texts(prepared, "val") == rows(25, 27)
    assert texts(prepared, "test") == rows(31, 36)
    assert prepared.metrics["read_rows"] == prepared.metrics["rows"] == 81


def test_without_a_validation_file_a_share_of_each_class_of_train_validates(own: Path, prepare: Prepare) -> None:
    prepared = prepare(own)
    assert Counter(label for _, label in texts(prepared, "val")) == dict.fromkeys(LABELS, 2)
    assert sorted(texts(prepared, "train") + texts(prepared, "val")) == sorted(rows(1, 21))
    assert texts(prepared, "test") == rows(31, 36)


def test_equal_texts_of_train_do_not_leak_into_validation(own: Path, prepare: Prepare) -> None:
    write(own / "train.csv", rows(1, 11) * 4)
    metrics = prepare(own).metrics
    assert metrics["val_near_train"] == 0
    assert metrics["val_rows"] > 0


def test_leaks_between_given_files_are_counted_and_not_moved(own: Path, prepare: Prepare) -> None:
    leaked = [*rows(31, 36), ("REFUND  x", "refund"), ("card x", "card")]
    write(own / "test.csv", leaked)
    (own / "Test.TSV").unlink()
    prepared = prepare(own)
    in_train = {text for text, _ in texts(prepared, "train")} | {text for text, _ in texts(prepared, "val")}
    assert "card x" in in_train
    assert texts(prepared, "test") == leaked
    near = prepared.metrics["test_near_train"] + prepared.metrics["test_near_val"]
    exact = prepared.metrics["test_in_train"] + prepared.metrics["test_in_val"]
    assert (near, exact) == (2, 1)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_train_does_not_have_is_named(own: Path, prepare: Prepare, split: str) -> None:
    write(own / "val.csv", rows(25, 27))
    (own / "Test.TSV").unlink()
    write(own / "test.csv", rows(31, 36))
    write(own / f"{split}.csv", [*rows(31, 36), ("hello", "greeting"), ("tell me", "joke")])
    with pytest.raises(UserError, match=rf"spam.split: class 'greeting' of {split} must be in train too \(2 classes"):
        prepare(own)


def test_a_class_that_only_train_has_is_kept_and_counted(own: Path, prepare: Prepare) -> None:
    write(own / "train.csv", [*rows(1, 21), ("hello", "greeting")])
    prepared = prepare(own)
    assert prepared.metrics["untested_classes"] == 1
    assert ("hello", "greeting") in texts(prepared, "train")
    assert prepared.classes["test"] == {"card": 5, "greeting": 0, "rate": 5, "refund": 5}


def test_undersampling_cuts_the_training_rows_alone(own: Path, prepare: Prepare) -> None:
    write(own / "train.csv", [*rows(1, 21), *rows(40, 60, ["rate"])])
    unbalanced = [*rows(31, 36), *rows(70, 75, ["rate"])]
    (own / "Test.TSV").unlink()
    for split in ("val", "test"):
        write(own / f"{split}.csv", unbalanced)
    prepared = prepare(own, balance="undersample")
    assert prepared.classes["train"] == dict.fromkeys(LABELS, 20)
    assert texts(prepared, "val") == texts(prepared, "test") == unbalanced


def test_a_row_without_label_is_named_with_its_file(own: Path, prepare: Prepare) -> None:
    write(own / "Test.TSV", [*rows(31, 36), ("hello", "")])
    with pytest.raises(UserError, match=r"test\.tsv: spam\.label_column: row 16 has no 'label'"):
        prepare(own)


def test_the_split_and_the_path_must_agree(own: Path, prepare: Prepare) -> None:
    rule = "spam.split: must be 'files' exactly when sources.spam.path is a folder of train and test tables"
    with pytest.raises(UserError, match=f"{rule}, got 'grouped'"):
        prepare(own, split="grouped")
    with pytest.raises(UserError, match=f"{rule}, got 'files'"):
        prepare(own / "train.csv")


def test_a_folder_without_train_or_test_or_with_two_of_one_is_refused(own: Path, prepare: Prepare) -> None:
    write(own / "train.jsonl", rows(1, 3))
    with pytest.raises(UserError, match=r"train must be one table, train\.csv is one too"):
        prepare(own)
    (own / "train.csv").unlink()
    (own / "Test.TSV").unlink()
    with pytest.raises(UserError, match=r"must have the tables train and test .*, got no test"):
        prepare(own)


def test_too_few_rows_for_a_validation_split_are_refused(own: Path, prepare: Prepare) -> None:
    write(own / "train.csv", [("a", "card"), ("b", "rate"), ("c", "refund")])
    with pytest.raises(UserError, match=r"spam\.val_fraction: must leave a row for validation, got 0\.1 of 3"):
        prepare(own)


@pytest.mark.skipif(not (MIRROR / "clinc150").is_dir(), reason="LLMCORE_MIRROR has no clinc150")
def test_clinc150_keeps_its_official_test_file(prepare: Prepare) -> None:
    prepared = prepare(MIRROR / "clinc150", label_column="intent")
    assert [len(prepared.splits[split]) for split in ("train", "val", "test")] == [15_000, 3_000, 4_500]
    assert prepared.metrics["classes"] == 150
    assert prepared.metrics["untested_classes"] == 0
