"""End a stage when the process that runs it has ended: `dvc`, or its launcher. Changes no output."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from llmcore.base.parallel import launcher_pid
from llmcore.dvc.rwlock import read_rwlock

POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL
PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_dvc() -> None:
    """Under DVC, end this process with SIGTERM as soon as DVC has ended; otherwise do nothing.

    Without this, a training would continue after `dvc` was killed, beside the one of the next `dvc repro`.
    Linux can signal the death of the parent process, but a shell may be between DVC and this process, and
    other systems have no such signal, so a thread polls as well.
    """
    if "DVC_STAGE" not in os.environ:
        return
    _end_with(dvc_process)


def end_with_launcher() -> None:
    """End this process with SIGTERM as soon as the one that launched it has ended."""
    end_with_ancestor(launcher_pid())


def end_with_ancestor(pid: int | None) -> None:
    """End this process with SIGTERM as soon as that one, which started it or its starter, has ended."""
    _end_with(lambda: next((each for each in psutil.Process().parents() if each.pid == pid), None))


def _end_with(find: Callable[[], psutil.Process | None]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    watched = find()
    if watched is None:  # it ended before this call
        sys.exit(128 + signal.SIGTERM)
    threading.Thread(target=_watch, args=(watched,), name="parent-watch", daemon=True).start()


def dvc_process() -> psutil.Process | None:
    """Return the DVC process that runs this stage, None if it has ended.

    DVC writes the processes that run stages into `.dvc/tmp/rwlock`; the one sought is an ancestor of this
    process. If the file is missing or unreadable, the parent process is returned.
    """
    ancestors = {process.pid: process for process in psutil.Process().parents()}
    locking = _locking_pids()
    if locking:
        return next((process for pid, process in ancestors.items() if pid in locking), None)
    return ancestors.get(os.getppid())


def _locking_pids() -> set[int]:
    """Return the ids of the processes in DVC's lock file; none if it is missing or just being written."""
    locks = read_rwlock(Path()) or {}
    try:
        readers = [reader["pid"] for readers in locks.get("read", {}).values() for reader in readers]
        return {*readers, *(writer["pid"] for writer in locks.get("write", {}).values() if writer)}
    except (AttributeError, KeyError, TypeError):  # of another version of DVC
        return set()


def _watch(process: psutil.Process) -> None:
    while is_alive(process):
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)  # for the tracker's last events
    os.kill(os.getpid(), signal.SIGKILL)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it ended between the two calls
        return False
