"""The user's own files: suffixes, what a folder leaves out, missing values, fields that are used."""

import json
from pathlib import Path
from typing import Any

import pytest
from data.offline import no_download

from llmcore.base.errors import UserError
from llmcore.base.files import read_jsonl
from llmcore.data.raw import write_raw_instructions, write_raw_spam, write_raw_text
from llmcore.data.reading import read_alpaca, read_table
from llmcore.data.spam import messages

# ---- suffixes

ROWS = [{"text": f"{'ab'[n % 2]} {n}", "label": "ab"[n % 2], "instruction": str(n), "output": str(n)} for n in range(9)]
JSONL = "\n".join(map(json.dumps, ROWS))
CSV = "text,label\n" + "\n".join(f"{row['text']},{row['label']}" for row in ROWS)
CONTENT = {".txt": "Once.", ".text": "Once.", ".csv": CSV, ".tsv": CSV.replace(",", "\t"), ".json": json.dumps(ROWS)}
WRITERS: dict[Any, tuple[str, ...]] = {
    write_raw_text: (".txt", ".text", ".jsonl"),
    write_raw_spam: (".csv", ".tsv", ".jsonl"),
    write_raw_instructions: (".json", ".jsonl"),
}
OTHERS = (".json", ".ndjson", ".jsonlines", ".csv", ".html", ".md", ".xml", ".pdf", ".parquet.gz", ".gz", ".bak", "")


@pytest.mark.parametrize("spell", [str, str.upper, str.title])
@pytest.mark.parametrize(("write", "suffix"), [(write, suffix) for write, known in WRITERS.items() for suffix in known])
def test_the_case_of_a_suffix_is_the_users(write: Any, suffix: str, spell: Any, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / f"own{spell(suffix)}"
    path.write_text(CONTENT.get(suffix, JSONL))
    meta = write(folder, "local", path, 1, 1, no_download)
    assert meta.get("rows", 9) == 9
    assert (folder / meta.get("file", "documents.jsonl")).suffix == (suffix if "file" in meta else ".jsonl")
    if write is write_raw_text:
        assert meta["documents"] == (9 if suffix == ".jsonl" else 1)


@pytest.mark.parametrize("spell", [str, str.upper])
@pytest.mark.parametrize(
    ("write", "suffix"),
    [(write, suffix) for write, known in WRITERS.items() for suffix in OTHERS if suffix not in known]
    + [(write_raw_spam, ".parquet"), (write_raw_instructions, ".parquet")],
)
def test_another_suffix_is_refused(write: Any, suffix: str, spell: Any, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / f"own{spell(suffix)}"
    path.write_text(JSONL)
    with pytest.raises(UserError, match=r"sources\.\w+\.path: must end in .* or \.\w+, got 'own.*'; convert the file"):
        write(folder, "local", path, 1, 1, no_download)


def test_what_a_folder_leaves_out_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own"
    (own / "inner").mkdir(parents=True)
    (own / "inner" / "c.txt").write_text("no")
    for name in ("a.txt", "B.TXT", "c.text", "d.md", "e.csv"):
        (own / name).write_text(name)
    (own / "f.txt").symlink_to("nowhere")
    meta = write_raw_text(folder, "local", own, 1, 1, no_download)
    assert [entry["name"] for entry in meta["files"]] == ["B.TXT", "a.txt", "c.text"]
    printed = capsys.readouterr().out
    assert "4 left out" in printed
    assert all(name in printed for name in ("d.md", "e.csv", "f.txt", "inner/"))


# ---- missing values, labels


@pytest.mark.parametrize("label", ["NaN", "null", '""', '" "'])
def test_absent_null_and_nan_are_one_missing_label(tmp_path: Path, label: str) -> None:
    problems = set()
    for row in (f'{{"text": "a", "label": {label}}}', '{"text": "a"}'):
        (tmp_path / "own.jsonl").write_text(f'{{"text": "b", "label": "x"}}\n{row}\n')
        with pytest.raises(UserError) as caught:
            messages(read_table(tmp_path / "own.jsonl", columns=("text", "label")), "text", "label")
        problems.add(str(caught.value))
    assert problems == {"spam.label_column: row 2 has no 'label'; add it or remove the row"}


@pytest.mark.parametrize("value", [["a"], [], {"a": 1}, {}, [[[]]]])
@pytest.mark.parametrize("column", ["text", "label"])
def test_a_list_or_an_object_is_no_text_and_no_label(tmp_path: Path, column: str, value: Any) -> None:
    (tmp_path / "own.jsonl").write_text(json.dumps({"text": "a", "label": "b", column: value}))
    with pytest.raises(UserError, match=f"own.jsonl, row 1: '{column}' must be a string, got "):
        read_table(tmp_path / "own.jsonl", columns=("text", "label"))
    (tmp_path / "own.jsonl").write_text(json.dumps({"text": "a", "label": "b", "other": value}))
    assert len(read_table(tmp_path / "own.jsonl", columns=("text", "label"))) == 1


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".CSV"])
def test_a_column_twice_is_refused_where_it_is_used(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"own{suffix}"
    text = "text,label,label\na,b,c\n"
    path.write_text(text if suffix.lower() == ".csv" else text.replace(",", "\t"))
    with pytest.raises(UserError, match="the header must have 'label' once, got it twice"):
        read_table(path, columns=("text", "label"))
    assert list(read_table(path, columns=("text",))["text"]) == ["a"]


# ---- instructions


def alpaca(folder: Path, **fields: Any) -> Any:
    (folder / "own.jsonl").write_text(json.dumps({"instruction": "a", "output": "b", **fields}))
    return read_alpaca(folder / "own.jsonl")[0]


@pytest.mark.parametrize("value", ["no", "true", 0, 1, [], {}, 1.5])
def test_checkable_is_true_or_false(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UserError, match="row 1: 'checkable' must be true or false, got "):
        alpaca(tmp_path, checkable=value)


@pytest.mark.parametrize("key", ["instruction", "input", "output", "kind", "split"])
@pytest.mark.parametrize("value", [1, True, [], {}, 1.5, ["a"]])
def test_a_field_that_is_used_must_be_a_string(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"row 1: '{key}' must be a string, got "):
        alpaca(tmp_path, **{key: value})


@pytest.mark.parametrize("key", ["input", "kind", "split", "checkable"])
@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_field_without_value_is_missing(tmp_path: Path, key: str, value: Any) -> None:
    assert alpaca(tmp_path, **{key: value}) == alpaca(tmp_path)


@pytest.mark.parametrize("key", ["instruction", "output"])
@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_needed_field_without_value_is_missing(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"row 1: '{key}' is missing, found "):
        alpaca(tmp_path, **{key: value})


@pytest.mark.parametrize("key", ["conversations", "messages", "conversation"])
def test_rows_of_chats_are_told_to_be_converted(tmp_path: Path, key: str) -> None:
    (tmp_path / "own.jsonl").write_text(json.dumps({key: [{"from": "human", "value": "hi"}]}))
    with pytest.raises(UserError, match=f"'{key}' holds a chat: convert") as caught:
        read_alpaca(tmp_path / "own.jsonl")
    assert "'input'" not in str(caught.value)  # which the row does not have


def test_documents_keep_their_order(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.JSONL").write_text(JSONL)
    write_raw_text(folder, "local", tmp_path / "own.JSONL", 1, 1, no_download)
    assert [row["text"] for row in read_jsonl(folder / "documents.jsonl")] == [row["text"] for row in ROWS]
