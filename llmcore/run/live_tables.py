"""The curves of a training while it runs, for `dvc plots` and DVC's view in an editor; its stage writes them anew."""

import csv
import io
import time
from contextlib import suppress
from pathlib import Path

from llmcore.base import parallel
from llmcore.base.errors import UserError
from llmcore.base.files import write_csv
from llmcore.train.history import COLUMNS, History

STEPS_FILE = "steps.csv"
EVALUATIONS_FILE = "evaluations.csv"
INTERVAL_SECONDS = 5.0


class LiveTables:
    """Appends the steps of a history to its table every few seconds, so that a long one costs no more than a short one.

    Only the first process writes. Where it cannot, the training goes on.
    """

    def __init__(self, folder: Path, history: History):
        self._folder = folder
        self._history = history
        self._enabled = parallel.is_first()
        self._written = 0  # steps
        self._last = time.monotonic()

    def after_step(self) -> None:
        if self._enabled and time.monotonic() - self._last >= INTERVAL_SECONDS:
            self.write_steps()

    def write_steps(self) -> None:
        """Append the steps that are new."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if not self._written:
            writer.writeheader()
        writer.writerows(self._history.steps[self._written :])
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(self._folder / STEPS_FILE, "a" if self._written else "w", encoding="utf-8") as file:
                file.write(text.getvalue())
        self._written = len(self._history.steps)
        self._last = time.monotonic()

    def after_evaluation(self) -> None:
        if self._enabled:
            with suppress(OSError, UserError):
                write_csv(self._folder / EVALUATIONS_FILE, self._history.evaluations)
