"""Memory that processes share, as long as there is room for it."""

import os
from pathlib import Path

import pytest
import torch

from llmcore.base import shared_memory


def test_what_is_written_through_one_tensor_is_read_through_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    path = shared_memory.create(4 * 6)
    assert path
    one, other = (shared_memory.open_tensor(path, (2, 3), torch.float32) for _ in range(2))
    os.unlink(path)
    one[1] = torch.tensor([1.0, 2.0, 3.0])
    assert other.tolist() == [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]


def test_where_there_is_no_room_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)

    def full(*arguments: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert shared_memory.create(8) is None
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_such_folder_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "none")
    assert shared_memory.create(8) is None
