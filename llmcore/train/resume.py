"""When a training is saved, and how it resumes where a killed process stopped."""

import copy
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from llmcore.base.errors import UserError
from llmcore.train.checkpoint import Checkpoint, checkpoint_folders, read_checkpoint, write_checkpoint
from llmcore.train.history import History
from llmcore.train.state import State

if TYPE_CHECKING:
    from llmcore.config.params import RuntimeParams

MAX_WRITE_SHARE = 0.025  # of a core's time; with the copy before it, saving stays below 3%
STEPS = "history/steps"  # the history's rows, in float64

Found = TypeVar("Found")


class DiskCheckpointer:
    """The checkpoints of one training in `folder`: its weights, optimizer, random numbers and history.

    One is written every `checkpoint_interval_steps` or `_seconds`, whichever comes first, but later where
    writing would take more than MAX_WRITE_SHARE of the time; and one after the last step. A thread writes a copy
    while the training continues: waiting for the disk takes longer than the work.
    """

    def __init__(self, folder: Path, history: History, runtime: "RuntimeParams"):
        self._folder = folder
        self._history = history
        self._runtime = runtime
        self._saved_step = 0
        self._saved_at = time.monotonic()
        self._write_seconds = 0.0
        self._refused = False
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def restore(self, state: State) -> None:
        """Restore state and history from the newest whole checkpoint, if there is one."""
        if found := newest_whole(self._folder, read_checkpoint):
            self._become(state, found)

    def after_step(self, state: State, *, last: bool) -> None:
        """Save the training as it stands, if that is due."""
        if not last and not self._due(state.step):
            return
        self.wait()
        found = self._taken(state)
        # into main memory: a GPU may have no room for a second state
        copied = {name: torch.empty_like(tensor, device="cpu").copy_(tensor) for name, tensor in found.tensors.items()}
        self._writing = self._writer.submit(self._write, replace(found, tensors=copied))
        if last:
            self.wait()

    def wait(self) -> None:
        """Wait until the checkpoint being written is on the disk."""
        if self._writing:
            self._writing.result()

    def _taken(self, state: State) -> Checkpoint:
        """Return the training as it stands; its tensors are those in use."""
        state.settle()
        rows, rest = self._history.dump()
        steps = {STEPS: torch.tensor(rows, dtype=torch.float64)}  # (steps, 4)
        self._saved_step, self._saved_at = state.step, time.monotonic()
        return Checkpoint(state.step, state.tensors() | steps, copy.deepcopy(state.facts() | {"history": rest}))

    def _become(self, state: State, found: Checkpoint) -> None:
        state.restore(found.step, found.facts, found.tensors)
        self._history.load(found.tensors[STEPS].tolist(), found.facts["history"])
        self._saved_step, self._saved_at = found.step, time.monotonic()

    def _write(self, checkpoint: Checkpoint) -> None:
        begin = time.thread_time()  # processor time, without waiting for the disk
        try:
            self._save(checkpoint)
        except UserError as error:  # the disk is full or gone: the training is worth more than its copy
            self._refuse(error)
        self._write_seconds = time.thread_time() - begin

    def _save(self, checkpoint: Checkpoint) -> None:
        write_checkpoint(self._folder, checkpoint, kept=self._runtime.checkpoints_kept)

    def _due(self, step: int) -> bool:
        if self._writing and not self._writing.done():
            return False
        seconds, runtime = time.monotonic() - self._saved_at, self._runtime
        wanted = (
            step - self._saved_step >= runtime.checkpoint_interval_steps
            or seconds >= runtime.checkpoint_interval_seconds
        )
        return wanted and self._write_seconds <= MAX_WRITE_SHARE * seconds

    def _refuse(self, error: UserError) -> None:
        if not self._refused:
            self._refused = True
            print(f"checkpoint {error}; training continues, but a kill would lose its progress", file=sys.stderr)


def newest_whole(folder: Path, read: Callable[[Path], Found]) -> Found | None:
    """Return what `read` makes of the newest checkpoint; None if there is none.

    One that it refuses with a ValueError is reported and removed, and the one before it is used.
    """
    for path in reversed(checkpoint_folders(folder)):
        try:
            return read(path)
        except ValueError as error:
            print(f"checkpoint {path}: {error}; the one before is used", file=sys.stderr)
            shutil.rmtree(path, ignore_errors=True)
    return None
