"""When a training is saved, and how it resumes where a killed process stopped."""

import copy
import shutil
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from llmcore.base.errors import UserError
from llmcore.train.checkpoint import Checkpoint, checkpoint_folders, read_checkpoint, write_checkpoint
from llmcore.train.history import History
from llmcore.train.state import State

if TYPE_CHECKING:
    from llmcore.config.params import RuntimeParams

MAX_WRITE_SHARE = 0.025  # of a core's time; with the copy before it, saving stays below 3%
STEPS = "history/steps"  # the history's rows, in float64


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
        """Restore state and history from the newest whole checkpoint, if there is one.

        A damaged one is reported and removed, and the one before it is used.
        """
        for path in reversed(checkpoint_folders(self._folder)):
            try:
                found = read_checkpoint(path)
            except ValueError as error:
                print(f"checkpoint {path}: {error}; the one before is used", file=sys.stderr)
                shutil.rmtree(path, ignore_errors=True)
                continue
            state.restore(found.step, found.facts, found.tensors)
            self._history.load(found.tensors[STEPS].tolist(), found.facts["history"])
            self._saved_step, self._saved_at = found.step, time.monotonic()
            return

    def after_step(self, state: State, *, last: bool) -> None:
        """Save the training as it stands, if that is due."""
        if not last and not self._due(state.step):
            return
        self.wait()
        rows, rest = self._history.dump()
        tensors = {name: tensor.clone() for name, tensor in state.tensors().items()}
        tensors[STEPS] = torch.tensor(rows, dtype=torch.float64)  # (steps, 4)
        facts = copy.deepcopy(state.facts() | {"history": rest})
        self._writing = self._writer.submit(self._write, Checkpoint(state.step, tensors, facts))
        self._saved_step, self._saved_at = state.step, time.monotonic()
        if last:
            self.wait()

    def wait(self) -> None:
        """Wait until the checkpoint being written is on the disk."""
        if self._writing:
            self._writing.result()

    def _write(self, checkpoint: Checkpoint) -> None:
        begin = time.thread_time()  # processor time, without waiting for the disk
        try:
            write_checkpoint(self._folder, checkpoint, kept=self._runtime.checkpoints_kept)
        except UserError as error:  # the disk is full or gone: the training is worth more than its copy
            self._refuse(error)
        self._write_seconds = time.thread_time() - begin

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
