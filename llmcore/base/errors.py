"""The one exception for mistakes of the user, and how an entry point ends: one line or a traceback, no password."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from llmcore.base.credentials import masked
from llmcore.base.streams import ReaderGoneError, StreamError, discard, prepare_streams

# Exit codes
BUG = 1
MISTAKE = 2
LOST = 3  # of a process that has lost another one
INTERRUPTED = 128 + signal.SIGINT

# Failures of the operating system that the user can mend, whatever library was reading or writing, and the remedy.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
NO_PERMISSION = (errno.EACCES, errno.EPERM)
BAD_PATH = (errno.ENAMETOOLONG, errno.ELOOP)


class UserError(Exception):
    """A mistake the user can correct: the message names the key or file, the rule, the value and the remedy.

    Entry points (`stages`, `llmcore`) print it on stderr without a traceback and exit with code 2.
    Every other exception is a bug in this project and keeps its traceback. Passwords in the message are masked.
    """

    def __init__(self, message: str):
        super().__init__(masked(message))


def run_entry_point(work: Callable[[], int | None], *, prints_result: bool) -> int:
    """Run `work` and return the exit code of the process: its own or 0, 2 for a user's mistake, 130 after Ctrl-C.

    With `prints_result`, standard output that is closed or cannot be written is a mistake, too. A bug keeps its
    traceback, which like all that is written to standard error shows no password.
    """
    try:
        prepare_streams(prints_result=prints_result)
        code = work() or 0
        sys.stdout.flush()  # here, not at exit, where a failure would be a traceback
    except UserError as error:
        return print_user_error(error)
    except ReaderGoneError:  # it has seen enough
        discard(sys.stdout)
        return 0
    except OSError as error:
        if not (known := system_error(error)):
            raise
        return print_user_error(known)
    except StreamError as error:
        discard(sys.stdout)
        return print_user_error(UserError(str(error)))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return code


def system_error(error: OSError) -> UserError | None:
    """Return the line for a full disk, a missing permission or an impossible path; None for other errors."""
    what = error.filename or "disk"
    if error.errno in NO_ROOM:
        return UserError(f"{what}: cannot be written ({error.strerror}); free room")
    if error.errno in NO_PERMISSION:
        return UserError(f"{what}: cannot be used ({error.strerror}); change its permissions")
    if error.errno in BAD_PATH:
        return UserError(f"{what}: cannot be used ({error.strerror}); correct the path")
    return None


def print_user_error(error: UserError) -> int:
    """Print the error on stderr, one `error: ` line per line; return 2, the exit code."""
    for line in [*str(error).splitlines(), *_sub_folder_hint(Path.cwd())]:
        print(f"error: {line}", file=sys.stderr)
    return MISTAKE


def _sub_folder_hint(folder: Path) -> list[str]:
    """Return what to do where a command was given in a sub-folder of the project: paths are relative to its root."""
    folders = (folder, *folder.parents)
    is_root = [os.path.isfile(path / "params.yaml") and os.path.isfile(path / "dvc.yaml") for path in folders]
    if not any(is_root) or is_root[0]:
        return []
    return [f"this folder is inside the project {folder.parents[is_root.index(True) - 1]}; run the command there"]


def root_cause(error: BaseException) -> str:
    """Return the innermost message on one line: libraries wrap "Connection refused" in several exceptions."""
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    return masked(" ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split()))
