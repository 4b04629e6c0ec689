"""The scratch folder of a training: one process at a time, its own checkpoints only, removed when it is of no use."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from structure import ROOT

from llmcore.train.checkpoint import Checkpoint, checkpoint_folders, write_checkpoint
from llmcore.train.key import Parts, key_of
from llmcore.train.scratch import locked_scratch, remove_finished, scratch_root

PARTS: Parts = {"params": {"pretrain.lr": 0.004}}
OTHER: Parts = {"params": {"pretrain.lr": 0.001}}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which DVC runs the stage pretrain."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_STAGE", "pretrain")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.lock").write_text("a")
    return tmp_path


def save(folder: Path | None, step: int) -> None:
    assert folder
    write_checkpoint(folder, Checkpoint(step, {"a": torch.ones(1)}, {}), kept=2)


def killed(parts: Parts, step: int = 5) -> str:
    """Lock, save and die; return the id of the training."""
    training = ""
    with suppress(KeyboardInterrupt), locked_scratch("pretrain", parts) as scratch:
        training = scratch.training
        save(scratch.folder, step)
        raise KeyboardInterrupt
    return training


def saved_steps(parts: Parts) -> list[str]:
    with suppress(KeyboardInterrupt), locked_scratch("pretrain", parts) as scratch:
        assert scratch.folder
        steps = [path.name for path in checkpoint_folders(scratch.folder)]
        raise KeyboardInterrupt
    return steps


def test_a_killed_training_finds_its_checkpoints_and_its_id() -> None:
    training = killed(PARTS)
    with locked_scratch("pretrain", PARTS) as scratch:
        assert scratch.folder
        assert scratch.training == training
        assert [path.name for path in checkpoint_folders(scratch.folder)] == ["step-000005"]


def test_checkpoints_of_another_training_stay_and_the_difference_is_one_line(capfd: pytest.CaptureFixture) -> None:
    training = killed(PARTS)
    with locked_scratch("pretrain", OTHER) as scratch:
        assert scratch.folder
        assert checkpoint_folders(scratch.folder) == []
        assert scratch.training != training
    (line,) = capfd.readouterr().err.splitlines()
    assert "an unfinished run is not resumed: pretrain.lr 0.004 -> 0.001; it starts from the beginning" in line
    assert saved_steps(PARTS) == ["step-000005"]


def test_tokenized_parts_of_other_inputs_stay_and_are_one_line(capfd: pytest.CaptureFixture) -> None:
    """They have no checkpoints, and may be large."""
    with suppress(KeyboardInterrupt), locked_scratch("tokenize", PARTS) as scratch:
        assert scratch.folder
        (scratch.folder / scratch.training / "000000").mkdir(parents=True)
        raise KeyboardInterrupt
    with locked_scratch("tokenize", OTHER):
        pass
    (line,) = capfd.readouterr().err.splitlines()
    assert "tokenize: an unfinished run is not resumed: pretrain.lr 0.004 -> 0.001; it starts from" in line
    assert f"(`make clean` removes {scratch.folder})" in line


def test_of_several_other_trainings_the_most_similar_is_named(capfd: pytest.CaptureFixture) -> None:
    killed({"params": {"pretrain.lr": 0.004, "seed": 1}})
    killed({"params": {"pretrain.lr": 0.004, "seed": 2, "a": 1}})
    capfd.readouterr()
    killed({"params": {"pretrain.lr": 0.004, "seed": 3}})
    assert "resumed: seed 1 -> 3; it starts" in capfd.readouterr().err


def test_the_last_checkpoint_stays_until_dvc_has_recorded_the_outs(project: Path) -> None:
    """A kill while DVC caches the outs costs no step, and `dvc repro -f` afterwards trains again."""
    with locked_scratch("pretrain", PARTS) as scratch:
        training = scratch.training
        save(scratch.folder, 4)
        save(scratch.folder, 8)
    with locked_scratch("pretrain", PARTS) as scratch:
        assert scratch.folder
        assert [path.name for path in checkpoint_folders(scratch.folder)] == ["step-000008"]
        assert scratch.training == training
    (project / "dvc.lock").write_text("ab")
    with locked_scratch("pretrain", PARTS) as scratch:
        assert scratch.folder
        assert checkpoint_folders(scratch.folder) == []
        assert scratch.training != training


def test_a_clock_that_is_set_back_changes_nothing(project: Path) -> None:
    killed(PARTS)
    for path in [project / "dvc.lock", *scratch_root().rglob("*")]:
        os.utime(path, (0, 0))
    assert saved_steps(PARTS) == ["step-000005"]


def test_the_next_stage_removes_finished_trainings_and_no_others() -> None:
    with locked_scratch("pretrain", PARTS) as scratch:
        save(scratch.folder, 8)
    killed(OTHER)
    remove_finished("pretrain")
    assert len(list(scratch_root().glob("pretrain/*"))) == 2
    remove_finished("load_gpt2")
    assert saved_steps(OTHER) == ["step-000005"]
    assert len(list(scratch_root().glob("pretrain/*"))) == 1


def test_without_dvc_a_finished_training_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE")
    with locked_scratch("pretrain", PARTS) as scratch:
        save(scratch.folder, 8)
    assert list(scratch_root().glob("pretrain/*")) == []


def test_a_half_written_checkpoint_is_removed() -> None:
    killed(PARTS)
    (folder,) = scratch_root().glob("pretrain/*")
    (folder / ".new-step-000010").mkdir()
    assert saved_steps(PARTS) == ["step-000005"]
    assert not (folder / ".new-step-000010").exists()


LOCK_AND_WAIT = """
import sys, time, json
from llmcore.train.scratch import locked_scratch
with locked_scratch("pretrain", json.loads(sys.argv[1])):
    print("inside", flush=True)
    sys.stdin.readline()
"""


def start_process() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LOCK_AND_WAIT, '{"params": {"pretrain.lr": 0.004}}'],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_holder_that_has_not_said_who_it_is_is_waited_for(
    capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scratch_root() / "pretrain" / key_of(PARTS)
    folder.mkdir(parents=True)
    holder = FileLock(folder / "lock")
    holder.acquire()
    monkeypatch.setattr("llmcore.train.scratch.time.sleep", lambda _: holder.release())
    with locked_scratch("pretrain", PARTS) as scratch:
        assert scratch.folder == folder
    assert capfd.readouterr().err == "pretrain: another process is already running this; waiting for it\n"


def test_a_second_process_names_the_first_and_starts_when_that_is_killed() -> None:
    first = start_process()
    assert first.stdout
    assert first.stdout.readline() == "inside\n"
    second = start_process()
    assert second.stdout
    assert second.stderr
    assert second.stderr.readline() == f"pretrain: process {first.pid} is already running this; waiting for it\n"
    first.kill()
    first.communicate()
    assert second.stdout.readline() == "inside\n"
    assert second.communicate("\n") == ("", "")
    assert second.returncode == 0


# ---- disks


@pytest.fixture
def read_only(project: Path) -> Iterator[Path]:
    """A scratch folder in which nothing can be written, not even by root."""
    scratch_root().mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(scratch_root())], capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount a file system")
    yield scratch_root()
    subprocess.run(["umount", str(scratch_root())], check=True)


def test_a_read_only_scratch_folder_is_reported_and_the_training_continues(
    read_only: Path, capfd: pytest.CaptureFixture
) -> None:
    with locked_scratch("pretrain", PARTS) as scratch:
        assert scratch.folder is None
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("checkpoints: none can be saved, a killed run would start again (")
    assert "Read-only file system" in line
