"""One reader of JSON: what it accepts, what it refuses, and that no other file parses what a user can give."""

import ast
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.base.files import parse_json, read_json, read_jsonl, read_yaml
from llmcore.base.origin import read_source
from llmcore.data.reading import read_alpaca, read_table
from llmcore.data.text_files import read_documents
from llmcore.model.folder import read_config
from llmcore.tokenizer.load import load_tokenizer

BOM = b"\xef\xbb\xbf"
HOSTILE = {
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "long integer": b'{"text": ' + b"9" * 5000 + b"}",
    "infinity": b'{"text": Infinity}',
    "negative infinity": b'{"text": -Infinity}',
    "beyond floats": b'{"text": 1e999}',
    "key twice": b'{"text": "a", "text": "b"}',
    "not UTF-8": b'{"text": "\xff"}',
    "UTF-16": '{"text": "a"}'.encode("utf-16"),
    "zero bytes": b"\0" * 10,
    "cut": b'{"text": ',
    "conflict": b'<<<<<<< HEAD\n{"text": "a"}\n=======\n{"text": "b"}\n>>>>>>> other\n',
}
# files that parse what only this pipeline or DVC wrote, and treat what is broken as missing
OWN_FORMATS = {
    "llmcore/dvc/differences.py",
    "llmcore/dvc/fsck.py",
    "llmcore/dvc/parent.py",
    "llmcore/evaluate/judge.py",
    "llmcore/lineage/runs.py",
    "llmcore/tokenizer/train.py",
    "llmcore/tracking/spool.py",
    "llmcore/train/checkpoint.py",
    "llmcore/train/scratch.py",
}


def vocabulary(path: Path) -> Any:
    (path.parent / "vocab.json").write_bytes(path.read_bytes())
    (path.parent / "merges.txt").write_text("#version: 0.2\n")
    return load_tokenizer(path.parent)


def config(path: Path) -> Any:
    (path.parent / "config.json").write_bytes(path.read_bytes())
    return read_config(path.parent)


def origin(path: Path) -> Any:
    (path.parent / "origin.json").write_bytes(path.read_bytes())
    return read_source(path.parent)


READERS: dict[str, Callable[[Path], Any]] = {
    "a.json": read_json,
    "rows.jsonl": lambda path: list(read_jsonl(path)),
    "documents.jsonl": read_documents,
    "table.jsonl": read_table,
    "alpaca.json": read_alpaca,
    "alpaca.jsonl": read_alpaca,
    "vocabulary": vocabulary,
    "config": config,
    "origin": origin,
}


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_what_is_no_json_in_one_line(tmp_path: Path, name: str, hostile: str) -> None:
    path = tmp_path / name
    path.write_bytes(HOSTILE[hostile])
    with pytest.raises(UserError) as caught:
        READERS[name](path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


@pytest.mark.parametrize("mark", [b"", BOM])
def test_a_byte_order_mark_is_accepted_everywhere(tmp_path: Path, mark: bytes) -> None:
    row = b'{"text": "a", "instruction": "b", "output": "c"}'
    for name in ("documents.jsonl", "table.jsonl", "alpaca.jsonl", "rows.jsonl"):
        (tmp_path / name).write_bytes(mark + row + b"\n" + mark + row + b"\n" + mark)
        assert len(READERS[name](tmp_path / name)) == 2
    (tmp_path / "alpaca.json").write_bytes(mark + b"[" + row + b"]")
    assert len(read_alpaca(tmp_path / "alpaca.json")) == 1
    (tmp_path / "params.yaml").write_bytes(mark + b"seed: 1\n")
    assert read_yaml(tmp_path / "params.yaml") == {"seed": 1}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_json_is_read_as_written(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json("\ufeff" + json.dumps(value, ensure_ascii=False)) == value


@given(st.text() | st.text('[]{}",:0123456789eEINafty.-+ \n\\u'))
def test_any_text_is_a_value_or_a_value_error_of_one_line(text: str) -> None:
    try:
        value = parse_json(text)
    except ValueError as error:
        value = str(error)
        assert "\n" not in value
    assert not isinstance(value, float) or math.isfinite(value)


def test_the_size_of_an_integer_is_told_without_words_about_python() -> None:
    with pytest.raises(ValueError, match=r"^an integer of 5,000 digits is too large$"):
        parse_json("9" * 5000)


def test_nan_is_missing() -> None:
    assert parse_json('{"a": NaN, "b": [NaN]}') == {"a": None, "b": [None]}


def parses_json(path: Path) -> bool:
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)]
    return any(
        node.attr in ("load", "loads", "JSONDecoder") and isinstance(node.value, ast.Name) and node.value.id == "json"
        for node in calls
    )


def test_no_other_file_parses_json_of_a_user() -> None:
    files = [*(ROOT / "llmcore").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix() for path in files if parses_json(path)}
    assert found - OWN_FORMATS == {"llmcore/base/files.py"}
