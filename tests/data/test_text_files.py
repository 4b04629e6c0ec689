"""The user's corpus: folders, globs, JSONL and Parquet, compressed or not, read one document at a time."""

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from data.offline import no_download
from pyarrow import parquet

from llmcore.base.errors import UserError
from llmcore.base.files import read_jsonl
from llmcore.data.raw import write_raw_text
from llmcore.data.text_files import iter_documents, read_documents

TEXTS = ["One\nline.", "猫と犬 🦊", "Three."]
JSONL = "".join(json.dumps({"id": n, "body": text}) + "\n" for n, text in enumerate(TEXTS)).encode()


def zipped(data: bytes) -> bytes:
    """Compress without the time, which would be a part of a test's name."""
    return gzip.compress(data, mtime=0)


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def parquet_bytes(texts: list[Any], column: str = "body") -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({"id": range(len(texts)), column: texts}), sink, row_group_size=2)
    return bytes(sink.getvalue())


PACKED: dict[str, Callable[[], bytes]] = {
    "a.jsonl": lambda: JSONL,
    "a.jsonl.gz": lambda: zipped(JSONL),
    "two members.JSONL.GZ": lambda: zipped(JSONL[:20]) + zipped(JSONL[20:]),
    "a.b.jsonl.zst": lambda: zstd(JSONL),
    "two frames.jsonl.zst": lambda: zstd(JSONL[:20]) + zstd(JSONL[20:]),
    "a.parquet": lambda: parquet_bytes(TEXTS),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_corpus_is_the_same_in_every_form(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(PACKED[name]())
    assert list(iter_documents(tmp_path / name, "body")) == TEXTS


@pytest.mark.parametrize(("suffix", "pack"), [(".txt", bytes), (".text.gz", zipped), (".txt.zst", zstd)])
def test_a_text_file_is_one_document(suffix: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(pack(b"\xef\xbb\xbfOne\r\ntwo\n"))
    assert read_documents(tmp_path / f"a{suffix}") == ["One\ntwo\n"]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ("*", ["b.txt"]),
        ("**/*", ["a/c.jsonl", "a/d/e.txt.gz", "b.txt"]),
        ("**/*.jsonl", ["a/c.jsonl"]),
        ("a/*", ["a/c.jsonl"]),
    ],
)
def test_a_glob_chooses_the_files_of_a_folder_in_the_order_of_their_paths(
    files: str, names: list[str], folder: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    (own / "a" / "d").mkdir(parents=True)
    (own / "b.txt").write_text("b")
    (own / "a" / "c.jsonl").write_text('{"text": "c"}')
    (own / "a" / "d" / "e.txt.gz").write_bytes(zipped(b"e"))
    (own / "a" / "notes.md").write_text("no")
    meta = write_raw_text(folder, "local", own, 1, 1, no_download, files=files)
    assert [entry["name"] for entry in meta["files"]] == names
    texts = [Path(name).name[0] for name in names]
    assert [row["text"] for row in read_jsonl(folder / "documents.jsonl")] == texts


@pytest.mark.parametrize("files", ["/etc/*", "**.txt"])
def test_a_pattern_that_is_no_glob_is_named(files: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^sources.text.files: must be a pattern .*; correct it"):
        write_raw_text(tmp_path / "raw", "local", tmp_path, 1, 1, no_download, files=files)


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.jsonl.gz", zipped(JSONL)[:-9], "is damaged, or not what its suffix says .*Truncated"),
        ("a.jsonl.zst", zstd(JSONL)[:-3], "is damaged, or not what its suffix says .*Truncated"),
        ("a.jsonl.zst", JSONL, "is damaged, or not what its suffix says"),
        ("a.parquet", JSONL, "is damaged, or not what its suffix says .*Parquet"),
        ("a.parquet", parquet_bytes(TEXTS, "content"), r"must have the column 'body', has \['id', 'content'\]; name"),
        ("a.parquet", parquet_bytes(["a", None]), "row 2: 'body' must be a string, got None"),
        ("a.parquet", parquet_bytes([1, 2]), "row 1: 'body' must be a string, got 1"),
        ("a.parquet", parquet_bytes([" "]), "at least one row with text"),
        ("a.jsonl.gz", zipped(b"\xff\n"), "not UTF-8 text"),
        ("a.jsonl.gz", zipped(b"[1]\n"), "line 1: must be a JSON object, got list"),
        ("a.txt.gz", zipped(b"GGUF\0"), "zero byte at 4"),
    ],
)
def test_what_is_no_corpus_is_named_with_its_place(name: str, data: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"^{tmp_path}/{name}.*{problem}") as caught:
        list(iter_documents(tmp_path / name, "body"))
    assert "\n" not in str(caught.value)


def test_a_corpus_is_written_without_being_in_memory(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    packers: list[Callable[[bytes], bytes]] = [bytes, zstd, zipped]
    for number, pack in enumerate(packers):
        rows = ({"text": f"{number} {row} " + "word " * 1000} for row in range(1000))
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()  # 5 MB
        (own / f"{number}.jsonl{('', '.zst', '.gz')[number]}").write_bytes(pack(data))
    tracemalloc.start()
    try:
        meta = write_raw_text(folder, "local", own, 1, 1, no_download)
        assert meta["bytes"] > 15_000_000
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
