"""The table of downloads, the raw folders, and the user's own text files."""

import csv
import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from data.offline import no_download

from llmcore.base.errors import UserError
from llmcore.base.files import read_jsonl, sha256_file, sha256_folder
from llmcore.config.params import PublishedWeights
from llmcore.data import raw, sources
from llmcore.data.download import Fetched, RemoteFile, fetch
from llmcore.data.pretrained import WEIGHTS, write_raw_weights
from llmcore.data.raw import write_raw_instructions, write_raw_spam, write_raw_text, write_raw_tokenizer
from llmcore.data.reading import read_text
from llmcore.data.text_files import read_documents, text_files

MIRROR = os.environ.get("LLMCORE_MIRROR", "")
needs_mirror = pytest.mark.skipif(not Path(MIRROR or "?").is_dir(), reason="LLMCORE_MIRROR is not set to a folder")
NOWHERE = Path("nowhere")

TABLE: list[RemoteFile] = [
    sources.THE_VERDICT,
    sources.SMS_SPAM,
    sources.BOOK_INSTRUCTIONS,
    *sources.GPT2_TOKENIZER,
    *(file for files in WEIGHTS.values() for file in files),
]


def test_mirror_names_are_unique() -> None:
    names = [file.mirror_name for file in TABLE]
    assert len(set(names)) == len(names) == 5 + 4 * 4 + 4 * 5 + 1


@pytest.mark.parametrize("file", TABLE, ids=lambda file: file.mirror_name)
def test_every_remote_file_has_a_licence_and_a_pin(file: RemoteFile) -> None:
    assert file.url.startswith(("https://", "pip:"))
    assert file.licence
    assert re.fullmatch("[0-9a-f]{64}", file.sha256 or "") or (file.revision and file.revision in file.url)


def test_params_name_the_weights_of_the_table() -> None:
    assert get_args(PublishedWeights) == tuple(WEIGHTS)


@pytest.mark.parametrize("name", [name for name in WEIGHTS if not name.startswith("gpt2")])
def test_weights_of_the_llama_family_are_a_whole_folder_whose_tensors_are_pinned(name: str) -> None:
    pins = {file.name: file.sha256 for file in WEIGHTS[name]}
    layout = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert set(pins) == layout or [Path(file).suffix for file in pins] == [".gguf"]
    assert all(sha256 for file, sha256 in pins.items() if Path(file).suffix in (".safetensors", ".gguf"))
    assert {file.licence for file in WEIGHTS[name]} == {"Apache-2.0"}


def test_the_weights_come_from_the_hubs_resolve_address() -> None:
    files = {file.mirror_name: file.url for file in WEIGHTS["gpt2-medium"]}
    revision = "6dcaa7a952f72f9298047fd5137cd6e4f05f41da"
    address = f"https://huggingface.co/openai-community/gpt2-medium/resolve/{revision}"
    assert files == {
        f"gpt2-medium/{name}": f"{address}/{name}"
        for name in ("config.json", "merges.txt", "model.safetensors", "vocab.json")
    }


@needs_mirror
@pytest.mark.parametrize("file", [file for file in TABLE if not file.revision], ids=lambda file: file.mirror_name)
def test_the_mirrors_files_have_the_pinned_bytes(file: RemoteFile, tmp_path: Path) -> None:
    fetched = fetch(file, tmp_path / file.name, tmp_path / "scratch")
    assert (fetched.sha256, fetched.size_bytes) == (file.sha256, file.size_bytes)


@needs_mirror
def test_the_verdict_is_one_document(folder: Path, tmp_path: Path) -> None:
    meta = write_raw_text(
        folder, "the-verdict", NOWHERE, 1, 1, lambda file, target: fetch(file, target, tmp_path / "s")
    )
    (document,) = read_jsonl(folder / "documents.jsonl")
    assert document["text"].startswith("I HAD always thought Jack Gisburn")
    assert (meta["documents"], meta["bytes"]) == (1, 20_479)
    assert meta["files"][0]["sha256"] == sources.THE_VERDICT.sha256
    assert sorted(path.name for path in folder.iterdir()) == ["documents.jsonl", "meta.json"]


@needs_mirror
def test_the_spam_collection_has_5574_messages(folder: Path, tmp_path: Path) -> None:
    meta = write_raw_spam(folder, "sms-spam", NOWHERE, 1, 1, lambda file, target: fetch(file, target, tmp_path / "s"))
    assert (meta["rows"], meta["file"], meta["bytes"]) == (5_574, "SMSSpamCollection", 477_907)


@needs_mirror
def test_the_books_instructions_are_1100(folder: Path, tmp_path: Path) -> None:
    meta = write_raw_instructions(
        folder, "book", NOWHERE, 1, 1, lambda file, target: fetch(file, target, tmp_path / "s")
    )
    assert meta["rows"] == 1_100


@needs_mirror
def test_gpt2s_tokenizer_is_two_files(folder: Path, tmp_path: Path) -> None:
    write_raw_tokenizer(folder, "gpt2", NOWHERE, lambda file, target: fetch(file, target, tmp_path / "s"))
    assert sorted(path.name for path in folder.iterdir()) == ["merges.txt", "meta.json", "vocab.json"]


def test_a_vocabulary_of_the_user_is_copied(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UserError, match=r"sources.tokenizer.path: must be a file, got .*merges.txt"):
        write_raw_tokenizer(folder, "local", tmp_path, no_download)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    write_raw_tokenizer(folder, "local", tmp_path, no_download)
    assert (folder / "merges.txt").read_text() == "#version: 0.2\n"


def test_of_a_tokenizer_trained_here_only_the_meta_is_written(folder: Path) -> None:
    meta = write_raw_tokenizer(folder, "none", NOWHERE, no_download)
    assert (meta["kind"], meta["files"]) == ("none", [])
    assert [path.name for path in folder.iterdir()] == ["meta.json"]


def test_weights_come_with_their_revision_and_recorded_hashes(folder: Path) -> None:
    def fetch_name(file: RemoteFile, target: Path) -> Fetched:
        target.write_text(file.name)
        return Fetched(sha256_file(target), target.stat().st_size, "tag")

    meta = write_raw_weights(folder, "gpt2", fetch_name)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.json", "merges.txt", "meta.json", "model.safetensors", "vocab.json")
    ]
    assert meta["revision"] == "607a30d783dfa663caf39e06633721c8d4cfcd7e"
    assert {entry["name"]: entry["published"] for entry in meta["files"]} == {
        "config.json": False,
        "merges.txt": True,
        "model.safetensors": True,
        "vocab.json": True,
    }


WRITE: list[Any] = [write_raw_text, write_raw_spam, write_raw_instructions]


@pytest.mark.parametrize("write", WRITE)
def test_the_world_gives_the_same_bytes_for_the_same_seed_and_others_for_another(write: Any, tmp_path: Path) -> None:
    hashes = []
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        write(folder, "world", NOWHERE, 200, seed, no_download)
        hashes.append(sha256_folder(folder))
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_worlds_stories_carry_their_nats(folder: Path) -> None:
    meta = write_raw_text(folder, "world", NOWHERE, 20, 1, no_download)
    documents = list(read_jsonl(folder / "documents.jsonl"))
    assert meta["documents"] == len(documents) == 20
    assert all(document["nats"] > 0 for document in documents)
    assert meta["bytes"] == sum(len(document["text"].encode()) for document in documents)


def test_the_worlds_messages_are_a_csv_file_with_the_chance_of_spam(folder: Path) -> None:
    meta = write_raw_spam(folder, "world", NOWHERE, 200, 1, no_download)
    with open(folder / meta["file"], encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert meta["rows"] == len(rows) == 200
    assert {row["label"] for row in rows} == {"ham", "spam"}
    assert all(0 <= float(row["p_spam"]) <= 1 for row in rows)


def test_the_worlds_instructions_come_with_their_split(folder: Path) -> None:
    meta = write_raw_instructions(folder, "world", NOWHERE, 200, 1, no_download)
    rows = list(read_jsonl(folder / meta["file"]))
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert {"instruction", "input", "output", "kind", "checkable"} <= set(rows[0])


def test_a_folder_of_texts_gives_one_document_per_file_sorted_by_name(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name, data in {"b.txt": b"second\r\nline", "a.txt": b"\xef\xbb\xbffirst", "c.md": b"no"}.items():
        (own / name).write_bytes(data)
    meta = write_raw_text(folder, "local", own, 1, 1, no_download)
    assert list(read_jsonl(folder / "documents.jsonl")) == [{"text": "first"}, {"text": "second\nline"}]
    assert [entry["name"] for entry in meta["files"]] == ["a.txt", "b.txt"]


def test_one_text_file_is_one_document_in_any_script(folder: Path, tmp_path: Path) -> None:
    text = "Жили-были 猫と犬 🦊\n\nनमस्ते\n"
    (tmp_path / "story.text").write_text(text, encoding="utf-8")
    write_raw_text(folder, "local", tmp_path / "story.text", 1, 1, no_download)
    assert list(read_jsonl(folder / "documents.jsonl")) == [{"text": text}]


def test_the_raw_folder_contains_no_path_of_the_project(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("Once.")
    write_raw_text(folder, "local", tmp_path / "story.txt", 1, 1, no_download)
    assert str(tmp_path) not in (folder / "meta.json").read_text()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "must not be empty"),
        (b"\xef\xbb\xbf \n\t", "must not be empty"),
        (b"\x89PNG\r\n\x1a\n", "must be UTF-8 text, byte 0"),
        ("naïve".encode("latin-1"), "must be UTF-8 text, byte 2"),
        ("text".encode("utf-16"), "must be UTF-8 text, byte 0"),
        (b"GGUF\0\0text", "zero byte at 4"),
    ],
)
def test_a_file_that_is_not_text_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(UserError, match=problem) as caught:
        read_text(tmp_path / "a.txt")
    assert "a.txt" in str(caught.value)


def test_each_row_of_a_jsonl_file_is_a_document(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"text": "One.\\n", "label": "x"}\n\n{"text": " "}\n{"text": "Zwei."}\n')
    meta = write_raw_text(folder, "local", tmp_path / "own.jsonl", 1, 1, no_download)
    assert [row["text"] for row in read_jsonl(folder / "documents.jsonl")] == ["One.\n", "Zwei."]
    assert (meta["documents"], meta["bytes"]) == (2, 10)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"text": "a"}\n{"txt": "b"}\n', "own.jsonl, line 2: must have the column 'text', has ['txt']"),
        ('{"text": 3}\n', "row 1: 'text' must be a string, got 3"),
        ('{"text": " "}\n', "at least one row with text"),
        ('{"text": "\\ud800"}\n', "lone surrogate"),
        ("text\n", "line 1: not valid JSON"),
    ],
)
def test_a_jsonl_file_without_texts_is_named(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "own.jsonl").write_text(content)
    with pytest.raises(UserError, match=re.escape(problem)):
        read_documents(tmp_path / "own.jsonl")


def test_a_missing_path_is_named() -> None:
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        text_files(NOWHERE)


def test_a_folder_without_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"at least one \.txt file"):
        text_files(tmp_path)


@pytest.mark.parametrize("write", [write_raw_spam, write_raw_instructions])
@pytest.mark.parametrize(("name", "problem"), [("nowhere.csv", "must be a file"), ("own.xlsx", "must end in")])
def test_a_missing_table_or_one_of_another_format_is_refused(
    write: Any, folder: Path, tmp_path: Path, name: str, problem: str
) -> None:
    (tmp_path / "own.xlsx").write_bytes(b"PK")
    with pytest.raises(UserError, match=problem):
        write(folder, "local", tmp_path / name, 1, 1, no_download)


def test_files_of_the_user_are_copied_unchanged(folder: Path, tmp_path: Path) -> None:
    table = 'text,label\n"a, b",x\n'
    (tmp_path / "meta.csv").write_text(table)
    meta = write_raw_spam(folder, "local", tmp_path / "meta.csv", 1, 1, no_download)
    assert (folder / meta["file"]).read_text() == table
    assert (meta["kind"], meta["rows"]) == ("local", 1)


def test_a_file_called_meta_json_is_not_overwritten_by_ours(folder: Path, tmp_path: Path) -> None:
    rows = [{"instruction": "Say hello.", "output": "hello"}]
    (tmp_path / "meta.json").write_text(json.dumps(rows))
    meta = write_raw_instructions(folder, "local", tmp_path / "meta.json", 1, 1, no_download)
    assert json.loads((folder / meta["file"]).read_text()) == rows


def test_a_raw_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "plain file").write_text("in the way")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UserError, match="cannot be written"):
        write_raw_text(tmp_path / "plain file" / "raw", "local", tmp_path / "a.txt", 1, 1, no_download)


def test_licences_are_in_the_meta(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert write_raw_text(folder, "local", tmp_path / "a.txt", 1, 1, no_download)["licence"] == raw.LOCAL_LICENCE
