"""Full disks, kills and edits during a training: one line reports each, and the next run ends as if undisturbed."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML
from waiting import comes_true
from workspace import SMALL, Workspace

pytestmark = pytest.mark.slow

NUMBERS = SMALL | {
    "runtime.checkpoint_interval_steps": 1,
    "pretrain.epochs": 4,  # long enough to be killed between a checkpoint and the end
    "pretrain.eval_interval_steps": 50,
}
MADE = ("models/pretrain", "reports/pretrain/tables", "reports/pretrain/metrics.json", "dvc.lock")


@pytest.fixture(scope="module")
def trained(built: Workspace) -> tuple[Workspace, dict[str, str]]:
    """The small pipeline with a longer pretraining, and the hashes of what that made."""
    built.set_params(NUMBERS)
    built.run("dvc repro pretrain && git add -A && git commit -qm trained")
    return built, built.hashes(*MADE)


@pytest.fixture(autouse=True)
def undone(trained: tuple[Workspace, dict[str, str]]) -> None:
    """Pretraining is to be done again, from its first step."""
    workspace, _ = trained
    folder = workspace.folder
    workspace.run("git checkout -q . && rm -rf models .ckpt .dvc/cache/runs reports/pretrain/tables")
    outs = YAML(typ="safe").load((folder / "dvc.lock").read_text())["stages"]["pretrain"]["outs"]
    for digest in (out["md5"] for out in outs):
        (folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink(missing_ok=True)


def wait_for_checkpoint(folder: Path, seconds: float = 120) -> None:
    assert comes_true(lambda: any(folder.glob(".ckpt/pretrain/*/step-*")), seconds)


@pytest.fixture
def full_disk(trained: tuple[Workspace, dict[str, str]]) -> Iterator[Path]:
    """`models/` on a file system of 16 kB, which holds no model."""
    folder = trained[0].folder / "models"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_for_an_out_is_one_error_line_and_costs_no_step(
    trained: tuple[Workspace, dict[str, str]], full_disk: Path
) -> None:
    workspace, expected = trained
    printed = workspace.run("dvc repro pretrain", code=255)
    assert "No space left on device" in printed
    assert "error: " in printed
    assert "Traceback" not in printed
    subprocess.run(["umount", str(full_disk)], check=True)
    steps = expected_steps(workspace)
    assert f"pretrain: resumes after step {steps}, from its last checkpoint" in workspace.run("dvc repro pretrain")
    assert workspace.hashes(*MADE) == expected


def expected_steps(workspace: Workspace) -> int:
    return int(json.loads(workspace.run("git show HEAD:reports/pretrain/metrics.json"))["steps"])


def test_full_cache_is_reported_by_dvc_and_costs_no_step(trained: tuple[Workspace, dict[str, str]]) -> None:
    """The stage has finished when DVC fails; its last checkpoint is still there."""
    workspace, expected = trained
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
    assert workspace.hashes(*MADE) == expected


def test_second_repro_is_refused_and_does_not_disturb_the_first(
    trained: tuple[Workspace, dict[str, str]], tmp_path: Path
) -> None:
    workspace, expected = trained
    first = workspace.start("dvc repro pretrain", tmp_path / "log")
    wait_for_checkpoint(workspace.folder)
    assert "busy, it is being blocked by" in workspace.run("dvc repro pretrain", code=255)
    assert first.wait(300) == 0
    assert workspace.hashes(*MADE) == expected


@pytest.mark.parametrize("victim", [pytest.param("stage", marks=pytest.mark.exhaustive), "dvc"])
def test_killed_training_resumes_from_its_checkpoint(
    trained: tuple[Workspace, dict[str, str]], tmp_path: Path, victim: str
) -> None:
    workspace, expected = trained
    process = workspace.start("dvc repro pretrain", tmp_path / "log")
    wait_for_checkpoint(workspace.folder)
    stages = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid if victim == "dvc" else stages[-1].pid, signal.SIGKILL)
    process.wait(60)
    assert "pretrain: resumes after step " in workspace.run("dvc repro pretrain")
    assert workspace.hashes(*MADE) == expected
    assert not any(stage.is_running() and stage.status() != psutil.STATUS_ZOMBIE for stage in stages)


def test_training_with_another_number_does_not_resume_and_says_why(
    trained: tuple[Workspace, dict[str, str]], tmp_path: Path
) -> None:
    workspace, _ = trained
    process = workspace.start("dvc repro pretrain", tmp_path / "log")
    wait_for_checkpoint(workspace.folder)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    workspace.set(pretrain__lr=0.001)
    printed = workspace.run("dvc repro pretrain")
    assert "pretrain: an unfinished run is not resumed: pretrain.lr 0.004 -> 0.001; it starts" in printed
    assert "resumes after" not in printed


def test_forced_repro_trains_again(trained: tuple[Workspace, dict[str, str]]) -> None:
    """The checkpoint that is kept until DVC has recorded the outs must not replace a training."""
    workspace, expected = trained
    for arguments in ("", "-f -s", "-f -s"):
        assert "resumes after" not in workspace.run(f"dvc repro {arguments} pretrain")
    assert workspace.hashes(*MADE) == expected


BROKEN_MLFLOW = """
class MlflowClient:
    def __init__(self, *args, **kwargs): pass
    def __getattr__(self, name): raise RuntimeError(f"{name} is broken")
"""


def test_tracker_that_raises_at_every_call_changes_no_byte(
    trained: tuple[Workspace, dict[str, str]], tmp_path: Path
) -> None:
    workspace, expected = trained
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow/__init__.py").write_text(BROKEN_MLFLOW)
    (tmp_path / "mlflow/exceptions.py").write_text("class MlflowException(Exception): pass")
    workspace.set(runtime__tracking=True)
    printed = workspace.run("dvc repro pretrain", PYTHONPATH=str(tmp_path), MLFLOW_TRACKING_URI="http://127.0.0.1:1")
    assert workspace.hashes(*MADE) == expected
    warnings = [line for line in printed.splitlines() if line.startswith("tracking: ")]
    assert len(warnings) == 1
    assert re.search(r"is broken|No module named 'mlflow", warnings[0])
    assert list(workspace.folder.glob(".mlflow-spool/*.jsonl"))
