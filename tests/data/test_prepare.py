"""Prepared data: rows by split, their audit and metrics, and the files written from them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from data.offline import no_download

from llmcore.base.files import read_json, read_jsonl, sha256_folder
from llmcore.base.origin import Source, read_source
from llmcore.base.rows import InstructionRow, LabelledRow
from llmcore.data.instructions import prepare_instructions
from llmcore.data.prepared import Prepared, audit_json, write_prepared
from llmcore.data.raw import write_raw_instructions, write_raw_spam
from llmcore.data.spam import prepare_messages

SOURCE = Source("local", "free")
NOWHERE = Path("nowhere")
SPLITS = ("train", "val", "test")


def messages(folder: Path, kind: str = "world", path: Path = NOWHERE, **changes: Any) -> Prepared[LabelledRow]:
    """Prepare 300 messages of the world, or the table at `path`."""
    (folder / "raw").mkdir()
    meta = write_raw_spam(folder / "raw", kind, path, 300, 1, no_download)
    values = {"text_column": "text", "label_column": "label", "split": "grouped", "balance": "none"}
    params = SimpleNamespace(**{**values, "val_fraction": 0.1, "test_fraction": 0.2, **changes})
    return prepare_messages(folder / "raw", meta, params, seed=123)


def instructions(folder: Path, kind: str = "world", path: Path = NOWHERE) -> Prepared[InstructionRow]:
    """Prepare 300 instructions of the world, or the rows at `path`, by their own split."""
    (folder / "raw").mkdir()
    meta = write_raw_instructions(folder / "raw", kind, path, 300, 1, no_download)
    params = SimpleNamespace(split="given", val_fraction=0.05, test_fraction=0.1)
    return prepare_instructions(folder / "raw", meta, params, seed=123)


def test_the_worlds_messages_become_splits_without_leaks(tmp_path: Path) -> None:
    prepared = messages(tmp_path)
    metrics = prepared.metrics
    assert metrics["test_near_train"] == metrics["val_near_train"] == metrics["test_near_val"] == 0
    assert sum(metrics[f"{name}_rows"] for name in SPLITS) == metrics["rows"] == metrics["read_rows"] == 300
    for name in SPLITS:
        rows = prepared.splits[name]
        assert len(rows) == metrics[f"{name}_rows"] == sum(prepared.classes[name].values())
        assert all(list(row) == ["text", "label", "p_spam"] and isinstance(row["p_spam"], float) for row in rows)


def test_the_worlds_instructions_follow_their_own_split(tmp_path: Path) -> None:
    prepared = instructions(tmp_path)
    assert sum(prepared.metrics[f"{name}_rows"] for name in SPLITS) == 300
    assert list(prepared.splits["test"][0]) == ["instruction", "input", "output", "kind", "checkable"]
    assert prepared.classes == {}


def test_files_of_messages_are_the_splits_the_classes_and_the_source(tmp_path: Path) -> None:
    prepared = messages(tmp_path)
    write_prepared(tmp_path / "spam", prepared, SOURCE)
    assert sorted(path.name for path in (tmp_path / "spam").iterdir()) == [
        "meta.json",
        "source.json",
        "test.jsonl",
        "train.jsonl",
        "val.jsonl",
    ]
    assert read_json(tmp_path / "spam/meta.json") == {"labels": ["ham", "spam"], "rows": prepared.classes}
    assert {name: list(read_jsonl(tmp_path / f"spam/{name}.jsonl")) for name in SPLITS} == prepared.splits
    assert read_source(tmp_path / "spam") == SOURCE


def test_files_of_instructions_are_the_splits_and_the_source(tmp_path: Path) -> None:
    prepared = instructions(tmp_path)
    write_prepared(tmp_path / "instructions", prepared, SOURCE)
    names = sorted(path.name for path in (tmp_path / "instructions").iterdir())
    assert names == ["source.json", "test.jsonl", "train.jsonl", "val.jsonl"]


def test_the_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    hashes = set()
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_prepared(folder / "spam", messages(folder), SOURCE)
        hashes.add(sha256_folder(folder / "spam"))
    assert len(hashes) == 1


def test_the_content_of_audit_json_has_all_metrics_and_classes_only_where_rows_have_some(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with_classes = messages(tmp_path / "a")
    assert audit_json(with_classes)["metrics"] == with_classes.metrics
    assert list(audit_json(with_classes)) == ["metrics", "leaks", "conflicts", "faults", "look_alikes", "classes"]
    assert list(audit_json(instructions(tmp_path / "b"))) == ["metrics", "leaks", "conflicts", "faults", "look_alikes"]


def test_a_table_of_the_user_may_have_four_classes_and_other_columns(tmp_path: Path) -> None:
    labels = ["north", "east", "south", "west"]
    lines = [f"{labels[i % 4]},wind {'i' * i}" for i in range(80)]
    (tmp_path / "own.csv").write_text("Direction,Report\n" + "\n".join(lines) + "\nnorth,\n")
    prepared = messages(tmp_path, "local", tmp_path / "own.csv", text_column="Report", label_column="Direction")
    assert (prepared.metrics["classes"], prepared.metrics["empty_rows"]) == (4, 1)
    assert list(prepared.classes["train"]) == ["east", "north", "south", "west"]


def test_leaks_of_given_splits_are_in_the_audit(tmp_path: Path) -> None:
    rows = [("a", "train"), ("A", "test"), ("b", "val")]
    text = "\n".join(json.dumps({"instruction": ask, "output": ask, "split": split}) for ask, split in rows)
    (tmp_path / "own.jsonl").write_text(text)
    prepared = instructions(tmp_path, "local", tmp_path / "own.jsonl")
    assert prepared.metrics["test_near_train"] == 1
    assert prepared.audit.leaks == [
        {"split": "test", "row": 0, "also_in": "train", "kind": "near", "text": "A\n"},
    ]
    assert prepared.audit.conflicts == [{"text": "a\n", "labels": ["A", "a"]}]


def test_a_quotation_mark_that_joins_rows_is_in_the_audit(tmp_path: Path) -> None:
    lines = [f"{'ab'[i % 2]},wind {'i' * i}" for i in range(40)] + ['a,"open', 'b,swallowed"']
    (tmp_path / "own.csv").write_text("label,text\n" + "\n".join(lines) + "\n")
    prepared = messages(tmp_path, "local", tmp_path / "own.csv")
    assert prepared.metrics["swallowed_lines"] == 1
    (fault,) = prepared.audit.faults
    assert (fault["fault"], fault["text"]) == ("swallowed_lines", "open\nb,swallowed")
