"""Files that a killed DVC truncated are set aside, whole ones stay, and own files that DVC cannot read are named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.base.files import read_yaml
from llmcore.dvc.repair import check_own_files, main, remove_truncated

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
def test_truncated_files_are_named_and_the_lock_is_kept(tmp_path: Path, rwlock: bytes, lock: bytes) -> None:
    paths = dvc_files(tmp_path, rwlock, lock)
    messages = remove_truncated(tmp_path)
    assert [message.partition(":")[0] for message in messages] == [str(path) for path in paths]
    assert not any(path.exists() for path in paths)
    assert (tmp_path / ".dvc/tmp/dvc.lock.unreadable").read_bytes() == lock  # nothing is lost


CONFLICT = b"schema: '2.0'\nstages:\n<<<<<<< HEAD\n  a: {}\n=======\n  b: {}\n>>>>>>> other\n"


@pytest.mark.parametrize("lock", [CONFLICT, b"<<<<<<< HEAD\n", CONFLICT.replace(b"\n", b"\r\n")])
def test_a_merge_conflict_is_not_taken_for_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lock: bytes
) -> None:
    _, path = dvc_files(tmp_path, RWLOCK, lock)
    monkeypatch.chdir(tmp_path)
    assert main() == 2
    assert capsys.readouterr().err == (
        "error: dvc.lock: has the marks of a merge conflict; `git checkout --ours dvc.lock`, then `dvc repro`\n"
    )
    assert path.read_bytes() == lock


def params(folder: Path, kind: str, path: str) -> None:
    (folder / "params.yaml").write_text(f"sources: {{text: {{kind: {kind}, path: {path}}}}}\n")


def pipe(path: Path) -> None:
    os.mkfifo(path)


BAD = {
    "a missing file": (lambda folder: None, "own", r"own does not exist"),
    "a broken link": (lambda folder: (folder / "own").symlink_to("none"), "own", r"own does not exist"),
    "a loop": (lambda folder: (folder / "own").symlink_to("own"), "own", r"own (does not exist|is no file or folder)"),
    "a pipe": (lambda folder: pipe(folder / "own"), "own", r"own is no file or folder"),
    "a pipe in a folder": (lambda folder: pipe(folder / "d/x.txt"), "d", r"d/x.txt is no file or folder"),
    "a broken link in a folder": (lambda folder: (folder / "d/x").symlink_to("none"), "d", r"d/x does not exist"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_own_file_that_dvc_cannot_read_is_named_with_its_key(tmp_path: Path, name: str) -> None:
    make, path, problem = BAD[name]
    (tmp_path / "d").mkdir()
    make(tmp_path)
    params(tmp_path, "world", path)
    check_own_files(tmp_path)
    params(tmp_path, "local", path)
    with pytest.raises(UserError, match=rf"sources.text.path: .*{problem}; correct the path"):
        check_own_files(tmp_path)


def test_own_files_that_are_there_and_params_of_any_form_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("")
    params(tmp_path, "local", "own")
    check_own_files(tmp_path)
    for text in ("", "a", "sources: 1", "sources: {text: 1}", "sources: {text: {kind: local}}"):
        (tmp_path / "params.yaml").write_text(text)
        check_own_files(tmp_path)


def test_the_built_in_world_depends_on_no_file_that_users_add() -> None:
    """DVC watches the path of every source, whatever its kind."""
    for file in (ROOT / "params.yaml", *(ROOT / "presets").glob("*.yaml")):
        for source in read_yaml(file)["sources"].values():
            assert source["kind"] == "local" or source["path"] == "data/own/README.md"


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
