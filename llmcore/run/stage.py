"""How every stage begins and ends: settings before torch loads, the life of its process, errors as one line."""

import errno
import importlib
import os
import signal
import sys

from llmcore.base.errors import UserError, print_user_error
from llmcore.base.files import read_yaml
from llmcore.base.numerics import pin_numerics
from llmcore.base.process import prepare
from llmcore.config.read import PARAMS_FILE

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # whatever library was writing
PERMISSION_ERRORS = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)


def run_stage(name: str, arguments: list[str]) -> int:
    """Run `stages/<name>.py` with the paths of its command and return the exit code: 2 for a user's mistake.

    Under DVC the process ends when DVC does, and what finished trainings left behind is removed.
    """
    prepare()
    try:
        pin_numerics(precision())
        from llmcore.dvc.parent import end_with_dvc
        from llmcore.train.scratch import remove_finished

        end_with_dvc()
        if stage := os.environ.get("DVC_STAGE"):
            remove_finished(stage)
        importlib.import_module(f"stages.{name}").main(arguments)
    except UserError as error:
        return print_user_error(error)
    except OSError as error:
        what = error.filename or "disk"
        if error.errno in DISK_ERRORS:
            return print_user_error(UserError(f"{what}: cannot be written ({error.strerror}); free room"))
        if error.errno in PERMISSION_ERRORS:
            return print_user_error(UserError(f"{what}: cannot be used ({error.strerror}); change its permissions"))
        raise
    except KeyboardInterrupt:
        print("interrupted; `dvc repro` resumes, a training from its last checkpoint", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def precision() -> object:
    """Return `compute.precision` as params.yaml has it, unchecked: the stage itself checks the whole file."""
    params = read_yaml(PARAMS_FILE)
    compute = params.get("compute") if isinstance(params, dict) else None
    return compute.get("precision") if isinstance(compute, dict) else None
