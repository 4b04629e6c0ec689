"""A list of running processes that a killed DVC left half-written is removed wherever a command or a stage starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structure import ROOT

from llmcore.cli import main
from llmcore.dvc import rwlock
from llmcore.dvc.parent import _locking_pids
from llmcore.dvc.rwlock import mend_rwlock, read_rwlock

WHOLE = json.dumps({"write": {"models/pretrain": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}).encode()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rwlock, "WRITE_SECONDS", 0.0)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    return tmp_path / ".dvc/tmp/rwlock"


@pytest.mark.parametrize(
    "content", [WHOLE[:end] for end in range(0, len(WHOLE), 9)] + [b"\0" * 9, b"\xff", b"null", b"[]"]
)
def test_list_that_dvc_cannot_read_is_removed_and_named(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    assert read_rwlock(Path()) is None
    assert _locking_pids() == set()
    message = mend_rwlock(Path())
    assert message is not None
    assert message.startswith(".dvc/tmp/rwlock: DVC was killed while it wrote it; it is removed")
    assert not file.exists()
    assert mend_rwlock(Path()) is None


@pytest.mark.parametrize("content", [WHOLE, b"{}"])
def test_whole_list_stays(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    assert mend_rwlock(Path()) is None
    assert file.read_bytes() == content


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["read", "write", "pid", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_processes_are_read_from_any_list_without_an_error(content: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmcore.dvc.parent.read_rwlock", lambda root: content if isinstance(content, dict) else None)
        assert isinstance(_locking_pids(), set)


def test_a_list_that_is_being_written_stays(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(WHOLE[:20])
    monkeypatch.setattr("llmcore.dvc.rwlock.time.sleep", lambda seconds: file.write_bytes(WHOLE))
    assert mend_rwlock(Path()) is None
    assert file.read_bytes() == WHOLE


def test_command_and_stage_mend_it_when_they_start(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parents[2] / "presets").mkdir()
    file.write_bytes(b"")
    assert main(["preset"]) == 0
    assert not file.exists()
    assert capsys.readouterr().err.count("DVC was killed while it wrote it") == 1
    file.write_bytes(b"")
    (file.parents[2] / "params.yaml").write_text("{}\n")
    command = [sys.executable, "-c", "from llmcore.run.stage import run_stage; run_stage('none', [])"]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stderr.count("DVC was killed while it wrote it") == 1
    assert not file.exists()
