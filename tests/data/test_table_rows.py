"""Tables a row at a time: what is read, what is written, and what is refused with its place."""

import csv
import tracemalloc
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcore.base.errors import UserError
from llmcore.base.text import normalise_input
from llmcore.data.reading import read_table
from llmcore.data.table_rows import table_rows, table_writer, text_cell

cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=12)


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_rows_that_were_written_are_read_again(tmp_path: Path, suffix: str, pairs: list[tuple[str, str]]) -> None:
    path = tmp_path / f"table{suffix}"
    rows = [{"text": text, "other": other} for text, other in pairs]
    with table_writer(path, ["text", "other"]) as write:
        for row in rows:
            write(row)
    if suffix != ".jsonl":  # each line end is read as \n
        rows = [{name: normalise_input(cell) for name, cell in row.items()} for row in rows]
    assert list(table_rows(path)) == rows


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,n\nhi,1\n"a, ""b""\n\nc",2\n'),
        ("crlf.csv", b'text,n\r\nhi,1\r\n"a\r\nb",2\r\n'),
        ("bom.csv", b"\xef\xbb\xbftext,n\n\xc3\xbcber,1\n"),
        ("blank.csv", "text,n\n\nhi,1\n\n\nyou,2"),
        ("a.TSV", "text\tn\nhi, you\t1\n"),
        ("a.jsonl", '\ufeff{"text": "hi", "n": "1"}\n\n{"text": "NA", "n": ""}\n'),
    ],
)
def test_rows_are_those_that_the_pipeline_reads(tmp_path: Path, name: str, content: bytes | str) -> None:
    path = written(tmp_path / name, content)
    assert list(table_rows(path)) == read_table(path).to_dict("records")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv: must have at least one row, found none; add rows"),
        ("a.csv", "text,n\n", "a.csv: must have at least one row, found none; add rows"),
        ("a.jsonl", "\n", "a.jsonl: must have at least one row, found none; add rows"),
        ("a.csv", 'text,n\na,1\n"b\nc",2\nd\n', "a.csv, line 5: must have 2 fields as the header has, got 1; "),
        ("a.csv", "text,n\na, b,1\n", "a.csv, line 2: must have 2 fields as the header has, got 3; put text with ','"),
        ("a.csv", 'text,n\na,1\n"b,2\nc,3\n', "a.csv, the row that begins in line 3: its quotation marks do not match"),
        ("a.csv", 'text,n\n"a" b,1\n', "a.csv, the row that begins in line 2: its quotation marks do not match"),
        ("a.csv", "text,n,text\na,1,b\n", "a.csv: the header must have 'text' once, got it twice; "),
        ("a.csv", b"text\na\nb\xe9\n", "a.csv, line 3: must be UTF-8 text; convert the file to UTF-8"),
        ("a.csv", "text\na\n".encode("utf-16"), "a.csv, line 1: must be UTF-8 text; convert the file to UTF-8"),
        ("a.csv", b"text\na\0b\n", "a.csv, line 2: must be text, found a zero byte; "),
        ("a.jsonl", '{"text": "a", "x": "\\ud800"}\n', "a.jsonl, row 1: must be valid Unicode, got the lone surrogate"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "a.jsonl, line 2: must be a JSON object, got list; correct the line"),
        ("a.jsonl", b'{"text": "a\xe9"}\n', "a.jsonl: not UTF-8 text ("),
        ("a.xlsx", "text\na\n", "a.xlsx: must end in .csv, .tsv or .jsonl, got 'a.xlsx'; convert the file"),
    ],
)
def test_what_is_malformed_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path(name), content)
    with pytest.raises(UserError) as caught:
        list(table_rows(Path(name)))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_field_may_be_of_any_length(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", f"text\n{'long ' * 100_000}\n")
    csv.field_size_limit(131_072)
    assert [len(row["text"]) for row in table_rows(path)] == [500_000]


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    source = written(tmp_path / "a.csv", "text,n\n" + f"{'word ' * 400},1\n" * 5000)  # 10 MB
    tracemalloc.start()
    try:
        with table_writer(tmp_path / "b.jsonl", []) as write:
            for row in table_rows(source):
                write(row)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "b.jsonl").stat().st_size > 10e6
    assert peak < 1e6


@pytest.mark.parametrize(("value", "text"), [("hi", "hi"), (None, ""), (7, "7"), (True, "true"), ("a\r\nb", "a\nb")])
def test_a_cell_is_text(value: Any, text: str) -> None:
    assert text_cell({"text": value}, "text", "row 1") == text


def test_a_missing_column_is_named_beside_those_there_are() -> None:
    rule = "row 1: must have the column 'text', has only 'message', 'class'; name one of them"
    with pytest.raises(UserError, match=rule):
        text_cell({"message": "a", "class": "b"}, "text", "row 1")
    with pytest.raises(UserError, match=r"'c19', \.\.\.; name"):
        text_cell({f"c{number}": "" for number in range(40)}, "text", "row 1")


def test_values_of_json_become_cells_that_pandas_reads(tmp_path: Path) -> None:
    with table_writer(tmp_path / "a.csv", ["text", "tags", "n"]) as write:
        write({"text": 'a "b",\nc', "tags": ["x", 1]})
        write({"n": None, "text": "ü", "tags": {"k": False}})
    frame = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert frame.to_dict("list") == {"text": ['a "b",\nc', "ü"], "tags": ['["x", 1]', '{"k": false}'], "n": ["", ""]}


def test_a_file_that_was_not_finished_does_not_appear(tmp_path: Path) -> None:
    old = written(tmp_path / "a.csv", "old")

    def interrupted() -> None:
        with table_writer(old, ["text"]) as write:
            write({"text": "new"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert old.read_text() == "old"
