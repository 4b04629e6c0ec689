"""A stage ends when its DVC ends, whatever process is between them and whenever that happens."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from structure import ROOT

from llmcore.dvc.parent import is_alive

# a stand-in for DVC: it writes its id into rwlock as DVC does, runs a command, and waits
PARENT = """
import json, os, subprocess, sys
os.makedirs(".dvc/tmp", exist_ok=True)
json.dump({"write": {"out": {"pid": os.getpid(), "cmd": "dvc repro"}}, "read": {}}, open(".dvc/tmp/rwlock", "w"))
subprocess.run(sys.argv[1:])
"""
STAGE = """
import os, sys, time
time.sleep(float(sys.argv[1]))
from llmcore.dvc.parent import end_with_dvc
end_with_dvc()
print(os.getpid(), flush=True)
time.sleep(60)
"""


def start(folder: Path, command: list[str], **variables: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_STAGE": "pretrain"} | variables
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, *command], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )


def ends(pid: int, within_seconds: float = 10) -> bool:
    end = time.monotonic() + within_seconds
    while psutil.pid_exists(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not psutil.pid_exists(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("between", ["nothing", "a shell"])
def test_a_stage_ends_with_dvc(tmp_path: Path, between: str, number: signal.Signals) -> None:
    (tmp_path / "stage.py").write_text(STAGE)
    direct = [sys.executable, "stage.py", "0"]
    command = direct if between == "nothing" else ["sh", "-c", f"{' '.join(direct)}; echo after"]
    dvc = start(tmp_path, command)
    assert dvc.stdout
    stage = int(dvc.stdout.readline())
    dvc.send_signal(number)
    dvc.wait()
    assert ends(stage)


def test_a_stage_ends_if_dvc_died_before_it_was_watched(tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(STAGE)
    dvc = start(tmp_path, [sys.executable, "stage.py", "1"])
    end = time.monotonic() + 30
    while not (children := psutil.Process(dvc.pid).children()) and time.monotonic() < end:
        time.sleep(0.02)
    dvc.kill()
    dvc.wait()
    assert ends(children[0].pid)
    assert dvc.stdout
    assert dvc.stdout.read() == ""


def test_a_process_that_ends_during_the_check_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    monkeypatch.setattr(process, "is_running", lambda: True)  # as it was just before
    assert not is_alive(process)


def test_another_running_dvc_is_not_taken_for_the_own_one(tmp_path: Path) -> None:
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    note = {"write": {}, "read": {"out": [{"pid": os.getpid() + 100_000, "cmd": "dvc repro"}]}}
    (tmp_path / ".dvc/tmp/rwlock").write_text(json.dumps(note))
    script = "from llmcore.dvc.parent import dvc_process; print(dvc_process())"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "None\n"


@pytest.mark.parametrize("note", [None, "", "{broken"])
def test_without_a_readable_rwlock_the_parent_is_watched(tmp_path: Path, note: str | None) -> None:
    if note is not None:
        (tmp_path / ".dvc/tmp").mkdir(parents=True)
        (tmp_path / ".dvc/tmp/rwlock").write_text(note)
    script = "import os; from llmcore.dvc.parent import dvc_process; print(dvc_process().pid == os.getppid())"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "True\n"


def test_without_dvc_nothing_is_watched(tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(STAGE)
    environment = {key: value for key, value in os.environ.items() if key != "DVC_STAGE"} | {"PYTHONPATH": str(ROOT)}
    shell = f"{sys.executable} stage.py 0 & read line"
    parent = subprocess.Popen(
        ["sh", "-c", shell], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    stage = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert not ends(stage, within_seconds=1)
    os.kill(stage, signal.SIGKILL)
