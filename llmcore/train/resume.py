"""When a training is saved, and how it goes on where a killed process left it."""

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from llmcore.train.checkpoint import Checkpoint, checkpoint_folders, read_checkpoint, write_checkpoint
from llmcore.train.history import History
from llmcore.train.state import restore_tensors, training_tensors

if TYPE_CHECKING:
    from llmcore.params import Runtime

SHARE = 0.02  # of the time at most goes into writing, so that a write slower than the last still costs below 3%


class Checkpoints:
    """The checkpoints of one training in `folder`: its weights, optimizer, random numbers and history.

    One is written every `checkpoint_interval_steps` or `_seconds`, whichever comes first, but later where
    writing would take more than its share of the time; and one after the last step.
    """

    def __init__(self, folder: Path, history: History, runtime: "Runtime"):
        self._folder, self._history, self._runtime = folder, history, runtime
        self._saved_step, self._saved_at, self._write_seconds = 0, time.monotonic(), 0.0
        self._refused = False

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, float]]:
        """Put the newest whole checkpoint into model, optimizer and history.

        Returns the steps done and the last evaluation; 0 and nothing where there is none. A damaged one is
        told, removed, and the one before taken.
        """
        for path in reversed(checkpoint_folders(self._folder)):
            try:
                found = read_checkpoint(path)
            except ValueError as error:
                print(f"checkpoint {path}: {error}; the one before is used", file=sys.stderr)
                shutil.rmtree(path, ignore_errors=True)
                continue
            restore_tensors(model, optimizer, found.tensors)
            self._history.load(found.facts["history"])
            self._saved_step, self._saved_at = found.step, time.monotonic()
            return found.step, found.facts["metrics"]
        return 0, {}

    def passed(
        self,
        step: int,
        metrics: dict[str, float],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        last: bool,
    ) -> None:
        """Save the training after `step` steps and the evaluation that belongs to it, if that is due."""
        if not last and not self._due(step):
            return
        begin = time.monotonic()
        facts = {"metrics": metrics, "history": self._history.dump()}
        checkpoint = Checkpoint(step, training_tensors(model, optimizer), facts)
        try:
            write_checkpoint(self._folder, checkpoint, kept=self._runtime.checkpoints_kept)
        except OSError as error:  # full or gone: the training is worth more than its copy
            self._refuse(error)
        self._saved_step, self._saved_at = step, time.monotonic()
        self._write_seconds = self._saved_at - begin

    def _due(self, step: int) -> bool:
        seconds, runtime = time.monotonic() - self._saved_at, self._runtime
        wanted = (
            step - self._saved_step >= runtime.checkpoint_interval_steps
            or seconds >= runtime.checkpoint_interval_seconds
        )
        return wanted and self._write_seconds <= SHARE * seconds

    def _refuse(self, error: OSError) -> None:
        if not self._refused:
            self._refused = True
            reason = f"cannot be written ({error.strerror}); training goes on, a kill would lose what it does"
            print(f"checkpoint in {self._folder}: {reason}", file=sys.stderr)
