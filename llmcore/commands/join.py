"""`llmcore join`: another machine's share of the trainings that `dvc repro` runs on the first one."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.files import read_yaml
from llmcore.base.numerics import settle_numerics
from llmcore.dvc.files import STAGES_FILE


def add_join(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    join = commands.add_parser("join", help="compute a part of the trainings that another machine runs")
    join.add_argument("stage", nargs="?", metavar="STAGE", help="this training alone; without it, all as they come")
    join.set_defaults(run=run_join)


def run_join(arguments: argparse.Namespace) -> int:
    from llmcore.run.stage import compute_params

    settle_numerics(**compute_params())  # before torch is loaded
    from llmcore.run.launch import TRAININGS, launch_on_machines
    from llmcore.run.machines import announced_stage, machines_of_environment

    machines = machines_of_environment()
    if machines is None:
        raise UserError(
            "NNODES: must be the number of machines, 2 or more, to join one; set it, as on the first machine"
        )
    if machines.is_first:
        raise UserError("NODE_RANK: 0 is the first machine, which runs `dvc repro`; set another number here")
    if arguments.stage not in (None, *TRAININGS):
        one = f"{', '.join(TRAININGS)}; the other stages run on the first machine alone"
        raise UserError(f"STAGE: must be one of {one}, got {arguments.stage!r}")
    while True:
        stage = arguments.stage or announced_stage(machines)
        entry = read_yaml(STAGES_FILE)["stages"][stage]
        _check_inputs(stage, entry["deps"])
        paths = shlex.split(entry["cmd"])[4:]  # python -m stages NAME PATH...
        code = launch_on_machines(machines, stage, paths)
        if code == 0:
            print(f"{stage}: trained; the first machine writes the results", file=sys.stderr, flush=True)
        if code or arguments.stage:
            return code


def _check_inputs(stage: str, paths: Sequence[str]) -> None:
    """UserError if an input of the stage is not on this machine; `dvc repro` would build it on the first one alone."""
    for path in paths:
        if not Path(path).exists() and "$" not in path:
            raise UserError(f"{path}: must be here to join {stage}; `dvc pull` it, or copy it from the first machine")
