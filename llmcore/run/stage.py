"""How every stage begins and ends: settings before torch loads, the life of its process, errors as one line."""

import importlib
import os
import sys

from llmcore.base.errors import INTERRUPTED, run_entry_point
from llmcore.base.files import read_yaml
from llmcore.base.numerics import pin_numerics
from llmcore.base.process import prepare
from llmcore.base.project import project_root
from llmcore.config.read import PARAMS_FILE


def run_stage(name: str, arguments: list[str]) -> int:
    """Run `stages/<name>.py` with the paths of its command and return the exit code: 2 for a user's mistake.

    Under DVC the process ends when DVC does, and what finished trainings left behind is removed.
    """
    prepare()
    return run_entry_point(lambda: _run(name, arguments), prints_result=False)


def _run(name: str, arguments: list[str]) -> int:
    try:
        pin_numerics(precision())
        from llmcore.dvc.parent import end_with_dvc
        from llmcore.dvc.rwlock import mend_rwlock
        from llmcore.train.scratch import remove_finished

        end_with_dvc()
        if mended := mend_rwlock(project_root()):
            print(mended, file=sys.stderr)
        if stage := os.environ.get("DVC_STAGE"):
            remove_finished(stage)
        importlib.import_module(f"stages.{name}").main(arguments)
    except KeyboardInterrupt:
        print("interrupted; `dvc repro` resumes, a training from its last checkpoint", file=sys.stderr)
        return INTERRUPTED
    return 0


def precision() -> object:
    """Return `compute.precision` as params.yaml has it, unchecked: the stage itself checks the whole file."""
    params = read_yaml(PARAMS_FILE)
    compute = params.get("compute") if isinstance(params, dict) else None
    return compute.get("precision") if isinstance(compute, dict) else None
