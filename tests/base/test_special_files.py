"""A pipe, a device, a folder, a broken link or a locked file where a file is expected: one line, at once."""

import builtins
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmcore.base import files
from llmcore.base.errors import UserError
from llmcore.base.files import read_bytes, read_json, read_jsonl, read_yaml, sha256_file
from llmcore.data.reading import read_alpaca, read_table, read_text
from llmcore.data.text_files import read_documents
from llmcore.tokenizer.bpe import read_merges

READERS: list[tuple[str, Callable[[Path], Any]]] = [
    ("a", read_bytes),
    ("a", sha256_file),
    ("a.json", read_json),
    ("a.yaml", read_yaml),
    ("a.jsonl", lambda path: list(read_jsonl(path))),
    ("a.txt", read_text),
    ("a.jsonl", read_documents),
    ("a.csv", read_table),
    ("a.jsonl", read_table),
    ("a.json", read_alpaca),
    ("merges.txt", read_merges),
]
PLACES: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "broken link": lambda path: path.symlink_to("nowhere"),
    "loop of links": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("name", "read"), READERS)
def test_every_reader_refuses_what_is_no_regular_file(
    tmp_path: Path, name: str, read: Callable[[Path], Any], place: str
) -> None:
    PLACES[place](tmp_path / name)
    with pytest.raises(UserError, match=r"^.*must be a file|no such file|cannot be read|does not exist") as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize(("name", "read"), READERS)
def test_a_file_without_permission_is_not_called_missing(
    tmp_path: Path, name: str, read: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the refusal is played."""
    (tmp_path / name).write_text("{}")

    def refuse(path: Path, mode: str) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); correct the path or its permissions"):
        read(tmp_path / name)
    assert files.open is not builtins.open  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "file/below"])
def test_a_path_that_no_file_can_have_is_a_user_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path / name)


def test_the_limit_on_file_sizes_is_named() -> None:
    with pytest.raises(UserError, match=r"a: cannot be written \(File too large\); raise `ulimit -f`"):
        write_too_much()


def write_too_much() -> None:
    with files.user_errors("a"):
        raise OSError(errno.EFBIG, "File too large")
