"""Measure what this machine needs for the stages of params.yaml: a few real steps of each, in its own processes.

    python -m llmcore.run.measure SAMPLE.json RESULT.json [STAGE...]

A stage is measured on sample rows at its real shapes, with fresh weights where its model does not exist yet.
"""

import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

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
    vocab_size: int | None  # of the tokenizer that will be used, where it is known and another is learned


def measure(sample: Sample) -> Figures:
    """Return the figures of each stage that can be measured, in a process of its own, as stages have."""
    with tempfile.TemporaryDirectory(prefix="llmcore-plan-") as name:
        rows, result = Path(name) / "sample.json", Path(name) / "result.json"
        write_json(rows, dataclasses.asdict(sample))
        command = [sys.executable, "-m", "llmcore.run.measure", str(rows), str(result)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["llmcore plan: measuring failed; try again"]
            errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
            raise UserError("\n".join(errors or lines[-1:]))
        found: Figures = read_json(result)
        return found


def main(argv: Sequence[str]) -> int:
    """Measure all stages, or as one of several processes the stages that are named."""
    prepare()
    return run_entry_point(lambda: _measure(Path(argv[0]), Path(argv[1]), argv[2:]), prints_result=False)


def _measure(rows: Path, result: Path, stages: Sequence[str]) -> int:
    if parallel.launcher_pid():
        from llmcore.dvc.parent import end_with_launcher

        end_with_launcher()
        found = _of_stages(rows, stages)
        if parallel.is_first():
            write_json(result, found)
        return 0
    settle_numerics(**compute_params())
    from llmcore.config.read import read_params
    from llmcore.run.launch import launch
    from llmcore.run.processes import processes_of_stages

    processes = processes_of_stages(read_params())
    found = {}
    for count in sorted(set(processes.values())):
        named = [stage for stage, its in processes.items() if its == count]
        begin = time.perf_counter()
        if count == 1:
            of_count = _of_stages(rows, named)
        elif code := launch("plan", ["-m", "llmcore.run.measure", str(rows), str(result), *named], count):
            return code
        else:
            of_count = read_json(result)
        measured = sum(figures["measured_seconds"] for figures in of_count.values())
        starting = time.perf_counter() - begin - measured
        found |= {stage: figures | {"starting_seconds": starting} for stage, figures in of_count.items()}
    write_json(result, found)
    return 0


def _of_stages(rows: Path, stages: Sequence[str]) -> Figures:
    from llmcore.run.measured_stages import measure_stages

    return measure_stages(Sample(**read_json(rows)), stages)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
