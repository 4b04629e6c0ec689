"""Files that a killed DVC truncated are removed, and whole ones stay."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from structure import ROOT

from llmcore.dvc.repair import remove_truncated

LOCK = (ROOT / "dvc.lock").read_bytes()
RWLOCK = json.dumps({"write": {"models/pretrain": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}).encode()


def dvc_files(folder: Path, rwlock: bytes, lock: bytes) -> tuple[Path, Path]:
    (folder / ".dvc/tmp").mkdir(parents=True)
    paths = folder / ".dvc/tmp/rwlock", folder / "dvc.lock"
    for path, content in zip(paths, (rwlock, lock), strict=True):
        path.write_bytes(content)
    return paths


def test_whole_files_stay(tmp_path: Path) -> None:
    rwlock, lock = dvc_files(tmp_path, RWLOCK, LOCK)
    assert remove_truncated(tmp_path) == []
    assert (rwlock.read_bytes(), lock.read_bytes()) == (RWLOCK, LOCK)


def test_missing_files_are_no_error(tmp_path: Path) -> None:
    assert remove_truncated(tmp_path) == []


CUTS = [LOCK[: LOCK.rindex(b"path:") + 5], LOCK[: LOCK.index(b"stages:") + 10], b"\xff"]


@pytest.mark.parametrize("lock", CUTS)
@pytest.mark.parametrize("rwlock", [b"", RWLOCK[:20], RWLOCK[:-1]])
def test_truncated_files_are_removed_and_named(tmp_path: Path, rwlock: bytes, lock: bytes) -> None:
    paths = dvc_files(tmp_path, rwlock, lock)
    messages = remove_truncated(tmp_path)
    assert [message.partition(":")[0] for message in messages] == [str(path) for path in paths]
    assert not any(path.exists() for path in paths)


def test_a_project_with_truncated_files_is_restored_without_running_a_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def run(command: str) -> str:
        done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True)
        return f"{done.returncode} {done.stdout}{done.stderr}"

    (tmp_path / "in").write_text("1")
    text = "stages:\n  copy:\n    cmd: cp in out\n    deps:\n    - in\n    outs:\n    - out\n"
    (tmp_path / "dvc.yaml").write_text(text)
    run("git init -q")
    run("dvc init -q")
    assert run("dvc repro").startswith("0 ")
    lock = (tmp_path / "dvc.lock").read_bytes()
    (tmp_path / "dvc.lock").write_bytes(lock[: lock.rindex(b"path:") + 5])
    (tmp_path / ".dvc/tmp/rwlock").write_bytes(b"")
    assert not run("dvc repro").startswith("0 ")
    assert len(remove_truncated(tmp_path)) == 2
    printed = run("dvc repro")
    assert printed.startswith("0 ")
    assert "Running stage" not in printed
    assert (tmp_path / "dvc.lock").read_bytes() == lock
