"""Kill the pipeline at random moments until it is built, and compare it with one that nobody disturbed.

python tests/chaos.py --kills 50 --seed 0
"""

import argparse
import difflib
import json
import os
import random
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from workspace import SMALL, Workspace

from llmcore.base.files import read_yaml

# Small, but trained long enough that many kills fall into a training; a step has work for four processes.
NUMBERS = SMALL | {
    "pretrain.micro_batch_size": 2,
    "classifier.micro_batch_size": 4,
    "instruct.micro_batch_size": 2,
    "runtime.tracking": True,
    "model.dropout": 0.1,
    "pretrain.epochs": 8,
    "pretrain.eval_interval_steps": 50,
    "classifier.epochs": 8,
    "classifier.eval_interval_steps": 20,
    "instruct.epochs": 4,
    "instruct.eval_interval_steps": 20,
    "runtime.checkpoint_interval_steps": 10,
}
PROCESSES = (1, 2, 4)  # of which each start takes another number
KILLS_PER_BUILD = 25  # about as many as leave it time to be built
TRAININGS = ("pretrain", "finetune-classifier", "finetune-instruct")
MADE = ("data", "models", "reports")

Killed = Counter[str]  # what was killed -> how often


class Chaos:
    """A workspace that is built again and again up to a target, all of it by default; the first time undisturbed."""

    def __init__(self, folder: Path, seed: int, target: str = "", numbers: Mapping[str, Any] = NUMBERS):
        self.workspace = Workspace(folder)
        self.random = random.Random(seed)
        self.repro = f"dvc repro {target}".strip()
        self.log = folder / "chaos.log"
        self.workspace.set_params(dict(numbers))
        self.workspace.run("rm -f dvc.lock && git add -A && git commit -qm small && git status")
        begin = time.monotonic()
        self.workspace.run(self.repro)
        self.build_seconds = time.monotonic() - begin
        self.files = self.workspace.hashes(*MADE)
        self.points = self.tracked()
        self.lock = self.lock_lines()

    def disturbed_build(self, kills: int) -> Killed:
        """Build from nothing with that many kills; AssertionError where the result differs from the first one."""
        self.workspace.run("git clean -xdfq && git checkout -q .")
        killed: Killed = Counter()
        while killed.total() < kills and not self.build(
            self.random.uniform(0.1, self.build_seconds / min(kills, 5)), killed
        ):
            pass
        self.workspace.run(f"python -m llmcore.dvc.repair >> {self.log} && {self.repro} >> {self.log} 2>&1")
        self.compare()
        return killed

    def build(self, seconds: float, killed: Killed) -> bool:
        """Do what `make repro` does for that long, then kill; True if it was built before."""
        self.workspace.set_params({"runtime.processes": self.random.choice(PROCESSES)})
        self.workspace.run(f"python -m llmcore.dvc.repair >> {self.log}")
        process = self.workspace.start(self.repro, self.log)
        try:
            return process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            killed[self.kill(process.pid)] += 1
            process.wait(60)
            return False

    def kill(self, dvc: int) -> str:
        """Kill the stage, one of its processes, dvc, or both, by a signal or Ctrl-C; return the way."""
        ways = ["stage -9", "one -9", "dvc -9", "both -9", "stage TERM", "one TERM", "dvc TERM", "Ctrl-C"]
        way = self.random.choice(ways)
        who, _, how = way.partition(" ")
        stages = [child.pid for child in psutil.Process(dvc).children(recursive=True)]
        one = self.random.sample(stages, k=min(1, len(stages)))
        victims = {"stage": stages, "one": one, "dvc": [dvc], "both": [dvc, *stages], "Ctrl-C": []}[who]
        with suppress(ProcessLookupError):
            if who == "Ctrl-C":
                os.killpg(dvc, signal.SIGINT)
            for victim in victims or ([dvc] if who in ("stage", "one") else []):
                os.kill(victim, signal.SIGTERM if how == "TERM" else signal.SIGKILL)
        return way

    def compare(self) -> None:
        """Compare every file and every tracked point; no process and no run may be left over."""
        made = self.workspace.hashes(*MADE)
        assert made.keys() == self.files.keys(), made.keys() ^ self.files.keys()
        differing = [name for name in made if made[name] != self.files[name]]
        changes = "\n".join(difflib.unified_diff(self.lock, self.lock_lines(), lineterm=""))
        assert not differing, f"{differing} differ; see {self.log}\n{changes}"
        assert not changes, f"dvc.lock differs; see {self.log}\n{changes}"
        assert self.tracked() == self.points
        assert not self.running_runs(), self.running_runs()
        assert not (leftover := self.processes()), leftover
        assert not list((self.workspace.folder / ".ckpt").glob("*/*/step-*"))

    def lock_lines(self) -> list[str]:
        """Return the lines of dvc.lock, stages by name: DVC runs those that need no other in an order of its own."""
        lock = read_yaml(self.workspace.folder / "dvc.lock")
        return json.dumps(lock, indent=1, sort_keys=True).splitlines()

    def tracked(self) -> list[tuple[Any, ...]]:
        """Return every point of every training but its speed, and how its run ended.

        A second run or point would be one more.
        """
        query = """
            select e.name, r.status, m.key, m.step, m.value from experiments e join runs r using (experiment_id)
            left join metrics m using (run_uuid) where e.name in (?, ?, ?)
            and coalesce(m.key, '') not like 'perf/%' order by e.name, m.key, m.step, m.value"""
        return self._query(query, *TRAININGS)

    def running_runs(self) -> list[tuple[Any, ...]]:
        return self._query("select name, status from runs where status not in ('FINISHED', 'KILLED', 'FAILED')")

    def processes(self) -> list[str]:
        """Return the command lines of processes that still work in the folder; the last ones get a moment to end."""
        end = time.monotonic() + 15
        while (found := self._processes()) and time.monotonic() < end:
            time.sleep(0.2)
        return found

    def _processes(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if Path(process.cwd()) == self.workspace.folder.resolve():
                    found.append(" ".join(process.cmdline()))
        return found

    def _query(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.workspace.folder / "mlflow.db") as database:
            return database.execute(query, values).fetchall()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores Ctrl-C, its children too
    folder = Path(tempfile.mkdtemp(prefix="llmcore-chaos-"))
    print(f"building undisturbed in {folder}", flush=True)
    chaos = Chaos(folder, arguments.seed)
    total: Killed = Counter()
    while (left := arguments.kills - total.total()) > 0:
        total += chaos.disturbed_build(min(left, KILLS_PER_BUILD))
        print(f"after {total.total()} kills 0 bytes differ: {dict(total)}", flush=True)


if __name__ == "__main__":
    main()
