"""Files are written whole or not at all, in one spelling, and malformed ones are named."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from llmcore.base.errors import UserError
from llmcore.base.files import (
    fresh_folder,
    json_text,
    read_csv,
    read_json,
    read_jsonl,
    sha256_file,
    sha256_files,
    sha256_folder,
    user_errors,
    write_bytes,
    write_csv,
    write_json,
    write_jsonl,
    write_text,
    writing,
)

texts = st.text(st.characters(codec="utf-8"), max_size=8)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- atomic writes


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def interrupted() -> None:
        with writing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_an_interrupted_first_write_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(tmp_path / "rows.jsonl", rows())
    assert names(tmp_path) == []


def test_a_written_file_replaces_the_old_one_and_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/a.txt"
    write_text(path, "old")
    write_text(path, "né\n")
    assert path.read_bytes() == "né\n".encode()
    assert names(path.parent) == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_temporary_file_has_the_suffix_and_the_folder_of_the_file(tmp_path: Path) -> None:
    """Some writers choose their format by the suffix; a rename works only inside one file system."""
    with writing(tmp_path / "a.safetensors") as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".safetensors")


def test_a_path_below_a_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file/a.txt"
    for write in (lambda: write_bytes(path, b""), lambda: write_json(path, {}), lambda: fresh_folder(path)):
        with pytest.raises(UserError, match=r"file/a.txt: cannot be written \(.+\); free disk space or change"):
            write()
    assert names(tmp_path) == ["file"]


def test_a_folder_in_the_place_of_a_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="a: cannot be written"):
        write_text(tmp_path / "a", "text")
    assert names(tmp_path) == ["a"]


def test_a_fresh_folder_is_empty(tmp_path: Path) -> None:
    (tmp_path / "out/inner").mkdir(parents=True)
    (tmp_path / "out/inner/old").write_text("")
    assert names(fresh_folder(tmp_path / "out")) == []
    assert names(fresh_folder(tmp_path / "new/out")) == []


# ---- JSON


def test_json_has_one_spelling() -> None:
    assert (
        json_text({"b": 1, "a": ["é", 1.5, None]}) == '{\n  "a": [\n    "é",\n    1.5,\n    null\n  ],\n  "b": 1\n}\n'
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_not_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(tmp_path / "a.jsonl", [{"a": value}])
    assert names(tmp_path) == []


def test_rows_are_read_as_written(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": "line\nend \u2028 \x85 \r"}, {"text": "é", "nats": 0.1 + 0.2}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == rows
    assert json.loads((tmp_path / "rows.jsonl").read_bytes().split(b"\n")[0]) == rows[0]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b'{"a": 1}\n\n{"a": \n', r"rows.jsonl, line 3: not valid JSON \(.+\); correct the line"),
        (b'{"a": 1}\n[1]\n', r"rows.jsonl, line 2: must be a JSON object, got list; correct the line"),
        (b'{"a": "\xff"}\n', r"rows.jsonl: not UTF-8 text \(.+\); convert"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, content: bytes, rule: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=rule):
        list(read_jsonl(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize("content", [b'{"a": ', b"\xff\xfe"])
def test_broken_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a.json: not valid JSON \(.+\); restore or rebuild the file"):
        read_json(tmp_path / "a.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_json, lambda path: list(read_jsonl(path))):
        with pytest.raises(UserError, match=r"none.json: no such file; run `dvc repro`"):
            read(tmp_path / "none.json")


# ---- hashes


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"abc")
    assert (
        sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )  # FIPS 180-2


def fill(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        write_text(folder / name, text)
    return sha256_folder(folder)


def test_the_hash_of_a_folder_depends_on_names_and_contents_alone(tmp_path: Path) -> None:
    files = {"a": "1", "b/c": "2", "d": "1"}
    first = fill(tmp_path / "first", files)
    (tmp_path / "second/empty").mkdir(parents=True)
    assert fill(tmp_path / "second", dict(reversed(files.items()))) == first
    assert fill(tmp_path / "renamed", {"a": "1", "b/e": "2", "d": "1"}) != first
    assert fill(tmp_path / "moved", {"a": "1", "c": "2", "d": "1"}) != first
    assert fill(tmp_path / "changed", {"a": "1", "b/c": "3", "d": "1"}) != first
    assert fill(tmp_path / "exchanged", {"a": "2", "b/c": "1", "d": "1"}) != first
    assert fill(tmp_path / "fewer", {"a": "1", "b/c": "2"}) != first


def test_the_hash_of_one_file_among_some_is_its_own(tmp_path: Path) -> None:
    fill(tmp_path, {"a": "1", "b": "2"})
    assert sha256_files([tmp_path / "a"]) == sha256_file(tmp_path / "a")


def test_the_hash_of_some_files_is_that_of_a_folder_of_them(tmp_path: Path) -> None:
    folder = fill(tmp_path / "folder", {"a": "1", "b": "2"})
    assert sha256_files([tmp_path / "folder/b", tmp_path / "folder/a"]) == folder


def test_csv_has_every_column_and_empty_cells_for_missing_values(tmp_path: Path) -> None:
    rows: list[dict[str, float | None]] = [
        {"step": 1, "loss_train": 2.5},
        {"step": 2, "loss_train": 2.0, "loss_val": 2.25},
        {"step": 3, "loss_val": None},
    ]
    write_csv(tmp_path / "history.csv", rows)
    wanted = b"step,loss_train,loss_val\n1,2.5,\n2,2.0,2.25\n3,,\n"
    assert (tmp_path / "history.csv").read_bytes() == wanted


@given(st.lists(st.fixed_dictionaries({"token": texts, "other": texts}), min_size=1, max_size=5))
def test_csv_is_read_as_it_was_written(rows: list[dict[str, str]]) -> None:
    """With line ends of all kinds, and control characters: a model may write any."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokens.csv")
        write_csv(path, rows)
        assert read_csv(path) == rows
        if not any("\0" in cell for row in rows for cell in row.values()):
            assert pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records") == rows


def test_only_a_full_disk_of_safetensors_errors_is_a_user_error() -> None:
    refusal = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(UserError, match=r"^w.safetensors: cannot be written \(No space left on device"):
        raise_within("w.safetensors", refusal)
    with pytest.raises(SafetensorError):
        raise_within("w.safetensors", SafetensorError("Error while serializing: invalid shape"))


def raise_within(path: str, error: Exception) -> None:
    with user_errors(path):
        raise error
