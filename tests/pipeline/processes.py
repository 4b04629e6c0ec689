"""Pretraining in two processes, as a stage that a test kills, and what it printed."""

import re
from contextlib import suppress

import psutil
from workspace import Workspace

PRETRAIN = (
    "python -m stages pretrain data/samples data/tokens data/tokenizer models/pretrain "
    "reports/pretrain/metrics.json reports/pretrain/tables"
)
NUMBERS = {"runtime.processes": 2, "pretrain.epochs": 2000.0, "runtime.checkpoint_interval_steps": 1}


class Stage:
    """Pretraining in two processes, which would not end in the time of a test."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.log = workspace.folder / "stage.log"
        self.process = workspace.start(PRETRAIN, self.log)

    @property
    def workers(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if "stages" in child.cmdline()]
        return []

    @property
    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8")


def messages(stage: Stage) -> list[str]:
    """Return the lines that are no progress."""
    lines = re.split(r"[\r\n]+", stage.printed)
    return [
        line for line in lines if line.strip() and "step/s" not in line and not line.startswith(("step ", "pretrain:"))
    ]
