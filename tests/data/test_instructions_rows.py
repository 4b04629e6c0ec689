"""Rows in Alpaca form, and their division into splits."""

import json
import os
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcore.base.errors import UserError
from llmcore.base.rows import InstructionRow
from llmcore.base.text import normalise_input
from llmcore.data.download import fetch
from llmcore.data.instructions import complete_rows, prompt_key, split_rows
from llmcore.data.reading import AlpacaRow, read_alpaca
from llmcore.data.sources import BOOK_INSTRUCTIONS

MIRROR = os.environ.get("LLMCORE_MIRROR", "")
needs_mirror = pytest.mark.skipif(not Path(MIRROR or "?").is_dir(), reason="LLMCORE_MIRROR is not set to a folder")
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def row(instruction: str, given: str = "", output: str = "yes", **rest: Any) -> AlpacaRow:
    return cast(AlpacaRow, {"instruction": instruction, "input": given, "output": output, **rest})


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


@needs_mirror
def test_the_books_split_is_935_110_55_in_the_order_train_test_val(tmp_path: Path) -> None:
    fetch(BOOK_INSTRUCTIONS, tmp_path / "book.json", tmp_path / "scratch")
    data = json.loads((tmp_path / "book.json").read_text())
    rows, dropped = complete_rows(read_alpaca(tmp_path / "book.json"))
    assert (rows, dropped) == (data, 0)
    parts = split_rows(rows, "book", 0.05, 0.1, 1)
    assert parts == {"train": data[:935], "test": data[935:1045], "val": data[1045:]}


@needs_mirror
def test_repeated_prompts_leak_in_the_books_split_and_not_in_the_grouped_one(tmp_path: Path) -> None:
    fetch(BOOK_INSTRUCTIONS, tmp_path / "book.json", tmp_path / "scratch")
    rows = read_alpaca(tmp_path / "book.json")

    def leaked(parts: dict[str, list[InstructionRow]], name: str) -> int:
        known = {(found["instruction"], found["input"]) for found in parts["train"]}
        return sum((found["instruction"], found["input"]) in known for found in parts[name])

    book = split_rows(rows, "book", 0.05, 0.1, 1)
    groups = split_rows(rows, "grouped", 0.05, 0.1, 1)
    assert (leaked(book, "test"), leaked(book, "val")) == (2, 4)
    assert (leaked(groups, "test"), leaked(groups, "val")) == (0, 0)
    assert [len(part) for part in groups.values()] == pytest.approx([935, 55, 110], abs=2)


def test_given_follows_the_rows_and_keeps_what_evaluation_needs() -> None:
    rows = [
        row("a", split="test", kind="colour", checkable=True),
        row("b", split="train", kind="count", checkable=True, note="x"),
        row("c", split="val"),
        row("d", split="train"),
    ]
    assert split_rows(rows, "given", 0.1, 0.1, 1) == {
        "train": [row("b", kind="count", checkable=True), row("d")],
        "val": [row("c")],
        "test": [row("a", kind="colour", checkable=True)],
    }


@pytest.mark.parametrize("found", [None, "dev", ["train"]])
def test_given_needs_a_valid_split_in_each_row(found: Any) -> None:
    rows = [row("a", split="train"), row("b", split=found) if found else row("b")]
    with pytest.raises(UserError, match=r"row 2 has .*set instructions\.split to 'grouped'"):
        split_rows(rows, "given", 0.1, 0.1, 1)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(UserError, match="val got none of 2"):
        split_rows([row("a", split="train"), row("b", split="test")], "given", 0.1, 0.1, 1)
    with pytest.raises(UserError, match="val got none of 3"):
        split_rows([row("same")] * 3, "grouped", 0.1, 0.1, 1)


def test_the_books_split_refuses_other_fractions() -> None:
    with pytest.raises(UserError, match=r"must be 0\.05 and 0\.1 .*, got 0\.1 and 0\.1; correct them"):
        split_rows([row("a")] * 100, "book", 0.1, 0.1, 1)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", "x", "X "])), min_size=30, max_size=60))
def test_rows_that_ask_the_same_stay_in_one_split(pairs: list[tuple[str, str]]) -> None:
    rows = [row(instruction, given, output=f"answer {i}") for i, (instruction, given) in enumerate(pairs)]
    try:
        parts = split_rows(rows, "grouped", 0.1, 0.2, 1)
    except UserError:  # fewer than three different prompts
        assert len({prompt_key(found) for found in rows}) < 3
        return
    where = {(prompt_key(found), name) for name, part in parts.items() for found in part}
    assert len(where) == len({prompt_key(found) for found in rows})
    assert sum(len(part) for part in parts.values()) == len(rows)


def test_prompts_that_differ_in_numbers_have_different_keys_and_in_case_the_same() -> None:
    assert prompt_key(row("Add.", "2 and 3")) != prompt_key(row("Add.", "4 and 5"))
    assert prompt_key(row("Add. ", "A")) == prompt_key(row("add.", "a"))
    assert prompt_key(row("a b", "c")) != prompt_key(row("a", "b c"))


def test_rows_without_instruction_or_output_are_dropped_and_counted() -> None:
    rows = [row("a"), row(" "), row("b", output="\n"), row("c", "input")]
    assert complete_rows(rows) == ([rows[0], rows[3]], 2)
    with pytest.raises(UserError, match="all 1 rows lack"):
        complete_rows([row("")])


ALPACA = st.lists(
    st.fixed_dictionaries(
        {key: st.text(st.characters(codec="utf-8")) for key in ("instruction", "output")},
        optional={"input": st.text(st.characters(codec="utf-8")) | st.none()},
    ),
    min_size=1,
    max_size=10,
)


@given(ALPACA, st.booleans())
@same_folder
def test_json_and_jsonl_give_the_same_rows(tmp_path: Path, rows: list[dict[str, Any]], ascii_only: bool) -> None:
    as_list = write(tmp_path / "a.json", json.dumps(rows, ensure_ascii=ascii_only))
    as_lines = write(tmp_path / "a.jsonl", "\n".join(json.dumps(one, ensure_ascii=ascii_only) for one in rows))
    given = [{key: value for key, value in one.items() if value is not None} for one in rows]
    expected = [{"input": ""} | {key: normalise_input(value) for key, value in one.items()} for one in given]
    assert read_alpaca(as_list) == read_alpaca(as_lines) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["instruction", "output", "input"]), inner),
)


@given(JSON)
@same_folder
def test_any_json_is_a_list_of_rows_or_a_user_error(tmp_path: Path, value: Any) -> None:
    try:
        rows = read_alpaca(write(tmp_path / "a.json", json.dumps(value)))
    except UserError:
        return
    assert all(isinstance(found, str) for row in rows for found in (row["instruction"], row["input"], row["output"]))


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.json", '[{"instruction": "a", "output": "b"},\n {"instruction": ]', r"a\.json: not valid JSON .*line 2"),
        ("a.jsonl", '{"instruction": "a", "output": "b"}\n{"instruction"', r"a\.jsonl, line 2: not valid JSON"),
        ("a.json", "", "not valid JSON"),
        ("a.json", "[]", "must be a list of rows, got an empty one"),
        ("a.jsonl", "\n", "must be a list of rows, got an empty one"),
        ("a.json", '{"instruction": "a"}', "must be a list of rows, got dict"),
        ("a.json", '["a"]', "row 1: must be a JSON object, got str"),
        ("a.json", '[{"instruction": "a"}]', r"row 1: 'output' is missing, found \['instruction'\]"),
        ("a.json", '[{"prompt": "a", "output": "b"}]', "row 1: 'instruction' is missing"),
        ("a.json", '[{"instruction": 5, "output": "b"}]', "row 1: 'instruction' must be a string, got 5"),
        ("a.json", '[{"instruction": "\\udc00", "output": "b"}]', "row 1, 'instruction': must be valid Unicode"),
        ("a.txt", "text", "must end in .json or .jsonl, got 'a.txt'"),
    ],
)
def test_malformed_rows_are_refused_with_the_reason(tmp_path: Path, name: str, text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        read_alpaca(write(tmp_path / name, text))


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.json: no such file"):
        read_alpaca(tmp_path / "nowhere.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\0")
    with pytest.raises(UserError, match=r"a\.json: not valid JSON"):
        read_alpaca(tmp_path / "a.json")
