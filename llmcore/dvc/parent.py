"""A stage does not outlive the `dvc` that runs it. Nothing here makes a byte of an out."""

import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil

POLL_SECONDS, GRACE_SECONDS = 0.2, 10.0
PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_dvc() -> None:
    """Under DVC, end this process by SIGTERM as soon as DVC is gone, whatever killed it; elsewhere do nothing.

    Otherwise a killed `dvc` would leave a training that runs on beside its successor. Linux signals the
    death of the direct parent itself; a shell may stand between, and other systems know nothing of the
    kind, so a thread looks too.
    """
    if "DVC_STAGE" not in os.environ:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    watched = dvc_process()
    if watched is None:  # gone before we could look
        sys.exit(128 + signal.SIGTERM)
    threading.Thread(target=_watch, args=(watched,), name="parent-watch", daemon=True).start()


def dvc_process() -> psutil.Process | None:
    """Return the process of DVC that runs this stage, None if it is gone.

    DVC notes who runs a stage in `.dvc/tmp/rwlock`; that process must be an ancestor of ours. Where no
    note is found, our parent is taken.
    """
    ancestors = {process.pid: process for process in psutil.Process().parents()}
    noted = _noted_processes()
    if noted:
        return next((process for number, process in ancestors.items() if number in noted), None)
    return ancestors.get(os.getppid())


def _noted_processes() -> set[int]:
    try:
        notes = json.loads(Path(".dvc/tmp/rwlock").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # being written this moment
        return set()
    readers = [reader["pid"] for readers in notes.get("read", {}).values() for reader in readers]
    return {*readers, *(writer["pid"] for writer in notes.get("write", {}).values() if writer)}


def _watch(process: psutil.Process) -> None:
    while _lives(process):
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)  # for the tracker's last records
    os.kill(os.getpid(), signal.SIGKILL)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it went between the two questions
        return False
