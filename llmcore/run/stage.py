"""How every stage begins and ends: settings before torch loads, the life of its processes, errors as one line."""

import importlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from llmcore.base import parallel
from llmcore.base.errors import INTERRUPTED, LOST, UserError, root_cause, run_entry_point
from llmcore.base.files import read_yaml
from llmcore.base.numerics import settle_numerics
from llmcore.base.process import prepare
from llmcore.base.project import project_root
from llmcore.config.read import PARAMS_FILE

GRACE_SECONDS = 5.0  # in which the first process says what is wrong, and the launcher ends the others


def run_stage(name: str, arguments: list[str]) -> int:
    """Run `stages/<name>.py` with the paths of its command and return the exit code: 2 for a user's mistake.

    Where several processes are to compute the stage, this one starts them, and each runs this function again. Under
    DVC all end when DVC does, and what finished trainings left behind is removed.
    """
    prepare()
    run = _run_worker if parallel.launcher_pid() else _run
    return run_entry_point(lambda: run(name, arguments), prints_result=False)


def _run(name: str, arguments: list[str]) -> int:
    try:
        settle_numerics(**compute_params())
        from llmcore.dvc.parent import end_with_dvc
        from llmcore.dvc.rwlock import mend_rwlock
        from llmcore.run.launch import (
            TRAININGS,
            command_of,
            launch,
            launch_on_machines,
            processes_for,
            take_large_pages,
        )
        from llmcore.run.machines import machines_of_environment
        from llmcore.train.scratch import remove_finished

        end_with_dvc()
        if mended := mend_rwlock(project_root()):
            print(mended, file=sys.stderr)
        if stage := os.environ.get("DVC_STAGE"):
            remove_finished(stage)
        machines = machines_of_environment()
        if machines and not machines.is_first:
            raise UserError(f"NODE_RANK: stages run where it is 0, got {machines.rank}; run `llmcore join` here")
        if machines and name in TRAININGS:
            return launch_on_machines(machines, name, arguments)
        take_large_pages(name, arguments)
        if (count := processes_for(name, arguments)) > 1:
            return launch(name, command_of(name, arguments), count)
        _main(name, arguments)
    except KeyboardInterrupt:
        print("interrupted; `dvc repro` resumes, a training from its last checkpoint", file=sys.stderr)
        return INTERRUPTED
    return 0


def _run_worker(name: str, arguments: list[str]) -> int:
    from llmcore.dvc.parent import end_with_launcher

    end_with_launcher()
    try:
        with _quiet_unless_first():
            _main(name, arguments)
    except KeyboardInterrupt:  # the launcher says so
        return INTERRUPTED
    except parallel.LostProcessError as lost:
        time.sleep(GRACE_SECONDS)
        if parallel.n_machines() == 1:  # the launcher has not ended this one: no other failed before it
            print(f"error: {name}: the processes could not exchange ({root_cause(lost)})", file=sys.stderr)
        return LOST
    return 0


def _main(name: str, arguments: list[str]) -> None:
    importlib.import_module(f"stages.{name}").main(arguments)


@contextmanager
def _quiet_unless_first() -> Iterator[None]:
    """Print nothing of the body in other processes than the first, but errors that the first here did not have too."""
    if parallel.is_first():
        yield
        return
    streams = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout = sys.stderr = nowhere
        try:
            yield
        except Exception:
            if parallel.local_rank():
                time.sleep(GRACE_SECONDS)
            raise
        finally:
            sys.stdout, sys.stderr = streams


def compute_params() -> dict[str, object]:
    """Return what settles the numerics, as params.yaml has it, unchecked: the stage itself checks the whole file."""
    params = read_yaml(PARAMS_FILE)
    section = params.get("compute") if isinstance(params, dict) else None
    found = section if isinstance(section, dict) else {}
    return {name: found.get(name) for name in ("numerics", "precision", "device")}
