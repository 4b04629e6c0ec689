"""The processes of a stage live and die together, and people see one stage."""

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from pipeline.processes import NUMBERS, PRETRAIN, Stage, messages
from waiting import comes_true
from workspace import Workspace

pytestmark = pytest.mark.slow

WITHIN_SECONDS = 20.0


@pytest.fixture
def stage(built: Workspace, tmp_path: Path) -> Iterator[Stage]:
    workspace = built.copy(tmp_path)
    workspace.set_params(NUMBERS)
    stage = Stage(workspace)
    assert comes_true(lambda: "step 0: val/loss" in stage.printed and len(stage.workers) == 2), stage.printed
    assert comes_true(lambda: bool(list((tmp_path / ".ckpt").glob("pretrain/*/step-*"))))
    yield stage
    with suppress(ProcessLookupError):
        os.killpg(stage.process.pid, signal.SIGKILL)


def are_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=WITHIN_SECONDS)
    return not alive


@pytest.mark.parametrize("number", [0, 1])
def test_a_dead_process_ends_the_stage_with_one_line(stage: Stage, number: int) -> None:
    workers = sorted(stage.workers, key=lambda process: int(process.environ()["RANK"]))
    workers[number].kill()
    assert stage.process.wait(WITHIN_SECONDS) == 2
    assert are_gone(workers)
    line = f"error: pretrain: process {number + 1} of 2 was ended by SIGKILL; if memory is short, lower "
    assert messages(stage) == [f"{line}runtime.processes"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_the_stage_ends_its_processes(stage: Stage, number: signal.Signals) -> None:
    workers = stage.workers
    stage.process.send_signal(number)
    stage.process.wait(WITHIN_SECONDS)
    assert are_gone(workers)


def test_ctrl_c_is_one_line(stage: Stage) -> None:
    workers = stage.workers
    os.killpg(stage.process.pid, signal.SIGINT)
    assert stage.process.wait(WITHIN_SECONDS) == 128 + signal.SIGINT
    assert are_gone(workers)
    assert messages(stage) == ["interrupted; `dvc repro` resumes, a training from its last checkpoint"]


def test_a_mistake_is_told_once(built: Workspace, tmp_path: Path) -> None:
    workspace = built.copy(tmp_path)
    workspace.set_params({"runtime.processes": 2})
    (tmp_path / "data/tokenizer/vocab.json").write_bytes(b"damaged")
    command = shlex.split(PRETRAIN)
    done = subprocess.run(command, cwd=tmp_path, env=workspace.environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: data/tokenizer/vocab.json")
