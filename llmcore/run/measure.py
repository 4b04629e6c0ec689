"""Measure what this machine needs for the stages of params.yaml: a few real steps of each, in its own processes.

    python -m llmcore.run.measure SAMPLE.json RESULT.json PROCESSES STAGE...

A stage is measured on sample rows at its real shapes, with fresh weights where its model does not exist yet.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmcore.base import parallel
from llmcore.base.errors import UserError, run_entry_point
from llmcore.base.files import read_json, write_json
from llmcore.base.numerics import settle_numerics
from llmcore.base.process import prepare
from llmcore.run.stage import compute_params

Figures = dict[str, dict[str, float]]  # stage -> name -> figure


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows that stand for all: the beginning of the data, or of what the built-in world would write."""

    texts: list[str]
    labelled: list[dict[str, str]]
    instructions: list[dict[str, str]]
    tokenizer: str | None  # folder of the one that pretraining uses; None: one is learned from the texts


def measure(sample: Sample, processes: Mapping[str, int]) -> Figures:
    """Return the figures of each stage of `processes`, which has the number of processes that compute it."""
    with tempfile.TemporaryDirectory(prefix="llmcore-plan-") as name:
        folder = Path(name)
        write_json(folder / "sample.json", dataclasses.asdict(sample))
        found: Figures = {}
        for count in sorted(set(processes.values())):
            stages = [stage for stage, its in processes.items() if its == count]
            result = folder / f"{count}.json"
            command = [sys.executable, "-m", "llmcore.run.measure", str(folder / "sample.json"), str(result)]
            done = subprocess.run([*command, str(count), *stages], stderr=subprocess.PIPE, text=True)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise UserError(f"measuring {', '.join(stages)}: {reason}")
            found |= read_json(result)
        return found


def main(argv: Sequence[str]) -> int:
    """Run as one of the processes that measure, and start the others where there are to be several."""
    prepare()
    return run_entry_point(lambda: _main(list(argv)), prints_result=False)


def _main(argv: list[str]) -> int:
    sample_file, result_file, count, *stages = argv
    if parallel.launcher_pid():
        from llmcore.dvc.parent import end_with_launcher

        end_with_launcher()
    else:
        settle_numerics(**compute_params())
        if int(count) > 1:
            from llmcore.run.launch import launch

            return launch("plan", ["-m", "llmcore.run.measure", *argv], int(count))
    from llmcore.run.measured_stages import measure_stages

    found = measure_stages(Sample(**json.loads(Path(sample_file).read_text(encoding="utf-8"))), stages)
    if parallel.is_first():
        write_json(result_file, found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
