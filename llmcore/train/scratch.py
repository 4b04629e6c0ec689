"""The scratch folder of a training, `.ckpt/<stage>/<key>/`: locked by one process at a time, outside of all outputs.

It lives until DVC has recorded the outs, so that a kill while they are cached costs no step. DVC runs
one stage after the other: when the next one begins, the one before is recorded.
"""

import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from llmcore.base.errors import UserError
from llmcore.base.files import write_json
from llmcore.base.project import project_root
from llmcore.train.checkpoint import TEMPORARY, checkpoint_folders
from llmcore.train.key import Parts, differences, key_of

KEY = "key.json"
FINISHED = "finished.json"
HOLDER = "pid"
LOCK = "lock"
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Scratch:
    """A locked folder (None where none can be written) and the id of this training, the same when it is resumed."""

    folder: Path | None
    training: str


def scratch_root() -> Path:
    """Return the folder of all unfinished trainings."""
    return project_root() / ".ckpt"


@contextmanager
def locked_scratch(stage: str, parts: Parts) -> Iterator[Scratch]:
    """Lock the scratch folder of the training that `parts` describe while the body trains and writes its outputs.

    Waits, with a message, while another process runs the same training. Reports which part differs where only
    another training's checkpoints are found. A folder that cannot be written is a warning, and nothing is saved.
    """
    folder = scratch_root() / stage / key_of(parts)
    try:
        lock = _acquire(folder, stage)
        training = _prepare(folder, stage, parts)
    except (OSError, UserError) as error:
        print(f"checkpoints: none can be saved, a killed run would start again ({error})", file=sys.stderr)
        yield Scratch(None, uuid.uuid4().hex)
        return
    try:
        yield Scratch(folder, training)
        with suppress(UserError):  # without the marker, a rerun only finds nothing left to train
            _finish(folder)
    finally:
        lock.release()


def remove_finished(stage: str) -> None:
    """Remove the folders of finished trainings of other stages than `stage`, unless a process has locked them."""
    for mark in scratch_root().glob(f"*/*/{FINISHED}"):
        if mark.parent.parent.name != stage:
            try:
                with FileLock(mark.parent / LOCK, timeout=0):
                    shutil.rmtree(mark.parent, ignore_errors=True)
            except (Timeout, OSError):
                continue


def _acquire(folder: Path, stage: str) -> FileLock:
    lock = FileLock(folder / LOCK)
    reported = False
    while True:
        folder.mkdir(parents=True, exist_ok=True)  # in every round: a process that finished may have removed it
        try:
            lock.acquire(timeout=0)
            (folder / HOLDER).write_text(str(os.getpid()), encoding="ascii")
            return lock
        except FileNotFoundError:
            continue
        except Timeout:
            if not reported:
                waits = f"{stage}: {_holder(folder)} is already running this; waiting for it"
                print(waits, file=sys.stderr, flush=True)
                reported = True
            time.sleep(POLL_SECONDS)


def _holder(folder: Path) -> str:
    """Name the process that has locked a folder; it may not have said so yet, or be leaving."""
    try:
        return f"process {(folder / HOLDER).read_text(encoding='ascii')}"
    except OSError:
        return "another process"


def _prepare(folder: Path, stage: str, parts: Parts) -> str:
    """Remove leftovers, report the checkpoints of another training, and return the id of this one."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if (folder / FINISHED).exists():
        if _read_json(folder / FINISHED) != _lock_file_state():  # DVC has recorded it since: this is a new training
            for path in checkpoint_folders(folder):
                shutil.rmtree(path, ignore_errors=True)
            (folder / KEY).unlink(missing_ok=True)
        (folder / FINISHED).unlink()
    known = _read_json(folder / KEY)
    if known is not None:
        return str(known["training"])
    _report_stale(folder, stage, parts)
    training = uuid.uuid4().hex
    write_json(folder / KEY, {"parts": parts, "training": training})
    return training


def _report_stale(folder: Path, stage: str, parts: Parts) -> None:
    """Report the unfinished work nearest to this one, and the parts that keep it from being resumed."""
    others = {}
    for path in folder.parent.iterdir():
        key = _read_json(path / KEY)
        if path != folder and key and _has_work(path, key) and not (path / FINISHED).exists():
            others[path] = differences(key["parts"], parts)
    if others:
        nearest = min(others, key=lambda path: len(others[path]))
        found = f"an unfinished run is not resumed: {', '.join(others[nearest])}"
        print(f"{stage}: {found}; it starts from the beginning (`make clean` removes {nearest})", file=sys.stderr)


def _has_work(folder: Path, key: Any) -> bool:
    """Return whether there are checkpoints of a training, or parts of a tokenized corpus."""
    return bool(checkpoint_folders(folder)) or (folder / str(key["training"])).is_dir()


def _finish(folder: Path) -> None:
    """Keep the last checkpoint until DVC has recorded the outputs; without DVC, keep nothing."""
    if "DVC_STAGE" not in os.environ:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in checkpoint_folders(folder)[:-1]:
        shutil.rmtree(path, ignore_errors=True)
    write_json(folder / FINISHED, _lock_file_state())


def _lock_file_state() -> dict[str, int]:
    """Return a state of dvc.lock that differs after each write of DVC; its time is compared, never used as a time."""
    try:
        found = os.stat("dvc.lock")
    except FileNotFoundError:
        return {}
    return {"mtime_ns": found.st_mtime_ns, "inode": found.st_ino, "bytes": found.st_size}


def _read_json(path: Path) -> Any:
    """Return the JSON of a file; None if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
