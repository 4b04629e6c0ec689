"""What disks and people do to a training under DVC: a line tells it, and the next run ends as if nothing had been."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML
from workspace import SMALL, Workspace

pytestmark = pytest.mark.slow

NUMBERS = SMALL | {
    "compute.threads": 1,
    "runtime.tracking": False,
    "runtime.checkpoint_interval_steps": 1,
    "pretrain.epochs": 12,
    "pretrain.eval_interval_steps": 50,
}
OUTS = ("models/pretrain", "reports/pretrain")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, str]]:
    """The pipeline up to pretraining, and the hashes of what pretraining made."""
    workspace = Workspace(tmp_path_factory.mktemp("faults"))
    workspace.set_params(NUMBERS)
    workspace.run("dvc repro pretrain && git add -A && git commit -qm built")
    return workspace, made(workspace)


@pytest.fixture(autouse=True)
def undone(built: tuple[Workspace, dict[str, str]]) -> None:
    """Pretraining is to be done again, from its first step."""
    folder = built[0].folder
    built[0].run("git checkout -q . && rm -rf models .ckpt .dvc/cache/runs")
    outs = YAML(typ="safe").load((folder / "dvc.lock").read_text())["stages"]["pretrain"]["outs"]
    for digest in (out["md5"] for out in outs):
        (folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink(missing_ok=True)


def made(workspace: Workspace) -> dict[str, str]:
    paths = [path for name in OUTS for path in sorted((workspace.folder / name).rglob("*")) if path.is_file()]
    names = {path.relative_to(workspace.folder).as_posix(): path for path in [*paths, workspace.folder / "dvc.lock"]}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in names.items()}


def wait_for_checkpoint(folder: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not list(folder.glob(".ckpt/pretrain/*/step-*")):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def full_disk(built: tuple[Workspace, dict[str, str]]) -> Iterator[Path]:
    """`models/` on a file system of 16 kB, which holds no model."""
    folder = built[0].folder / "models"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_for_an_out_is_one_line_and_costs_no_step(
    built: tuple[Workspace, dict[str, str]], full_disk: Path
) -> None:
    workspace, expected = built
    printed = workspace.run("dvc repro pretrain", code=255)
    assert "No space left on device" in printed
    assert "error: " in printed
    assert "Traceback" not in printed
    subprocess.run(["umount", str(full_disk)], check=True)
    steps = expected_steps(workspace)
    assert f"pretrain: resumes after step {steps}, from its last checkpoint" in workspace.run("dvc repro pretrain")
    assert made(workspace) == expected


def expected_steps(workspace: Workspace) -> int:
    return int(json.loads(workspace.run("git show HEAD:reports/pretrain/metrics.json"))["steps"])


def test_a_full_cache_is_told_by_dvc_and_costs_no_step(built: tuple[Workspace, dict[str, str]]) -> None:
    """The stage has finished when DVC fails; its last checkpoint is still there."""
    workspace, expected = built
    cache = workspace.folder / ".dvc/cache/files/md5"
    kept = workspace.folder / "kept"
    shutil.copytree(cache, kept)
    pages = sum(2 + path.stat().st_size // 4096 for path in kept.rglob("*"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={4096 * pages}", "tmpfs", str(cache)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        shutil.copytree(kept, cache, dirs_exist_ok=True)
        with suppress(OSError), open(cache / "filler", "wb", buffering=0) as file:
            while True:  # to the last page
                file.write(b"x" * 4096)
        printed = workspace.run("dvc repro pretrain", code=255)
        assert "No space left on device" in printed
    finally:
        subprocess.run(["umount", str(cache)], check=True)
        shutil.rmtree(kept)
    assert f"resumes after step {expected_steps(workspace)}" in workspace.run("dvc repro pretrain")
    assert made(workspace) == expected


def test_two_at_once_the_second_says_so_and_the_first_is_not_disturbed(
    built: tuple[Workspace, dict[str, str]], tmp_path: Path
) -> None:
    workspace, expected = built
    first = workspace.start("dvc repro pretrain", tmp_path / "log")
    wait_for_checkpoint(workspace.folder)
    assert "busy, it is being blocked by" in workspace.run("dvc repro pretrain", code=255)
    assert first.wait(300) == 0
    assert made(workspace) == expected


@pytest.mark.parametrize("victim", ["stage", "dvc"])
def test_killed_in_training_it_goes_on_from_its_checkpoint(
    built: tuple[Workspace, dict[str, str]], tmp_path: Path, victim: str
) -> None:
    workspace, expected = built
    process = workspace.start("dvc repro pretrain", tmp_path / "log")
    wait_for_checkpoint(workspace.folder)
    stages = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid if victim == "dvc" else stages[-1].pid, signal.SIGKILL)
    process.wait(60)
    assert "pretrain: resumes after step " in workspace.run("dvc repro pretrain")
    assert made(workspace) == expected
    assert not any(stage.is_running() and stage.status() != psutil.STATUS_ZOMBIE for stage in stages)


def test_another_number_does_not_resume_and_says_why(built: tuple[Workspace, dict[str, str]], tmp_path: Path) -> None:
    workspace, _ = built
    process = workspace.start("dvc repro pretrain", tmp_path / "log")
    wait_for_checkpoint(workspace.folder)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    workspace.set(pretrain__lr=0.001)
    printed = workspace.run("dvc repro pretrain")
    assert "pretrain: an unfinished training is not continued: pretrain.lr 0.004 -> 0.001; training begins" in printed
    assert "goes on after" not in printed


def test_forced_again_it_trains_again(built: tuple[Workspace, dict[str, str]]) -> None:
    """What is kept until DVC has recorded the outs must not make a rebuild a copy."""
    workspace, expected = built
    for arguments in ("", "-f -s", "-f -s"):
        assert "goes on after" not in workspace.run(f"dvc repro {arguments} pretrain")
    assert made(workspace) == expected


BROKEN_MLFLOW = """
class MlflowClient:
    def __init__(self, *args, **kwargs): pass
    def __getattr__(self, name): raise RuntimeError(f"{name} is broken")
"""


def test_a_tracker_that_raises_at_every_call_changes_no_byte(
    built: tuple[Workspace, dict[str, str]], tmp_path: Path
) -> None:
    workspace, expected = built
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow/__init__.py").write_text(BROKEN_MLFLOW)
    (tmp_path / "mlflow/exceptions.py").write_text("class MlflowException(Exception): pass")
    workspace.set(runtime__tracking=True)
    printed = workspace.run("dvc repro pretrain", PYTHONPATH=str(tmp_path), MLFLOW_TRACKING_URI="http://127.0.0.1:1")
    assert made(workspace) == expected
    told = [line for line in printed.splitlines() if line.startswith("tracking: ")]
    assert len(told) == 1
    assert "is broken" in told[0]
    assert list(workspace.folder.glob(".mlflow-spool/*.jsonl"))
