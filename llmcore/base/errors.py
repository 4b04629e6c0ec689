"""The one exception for mistakes of the user, and how an entry point prints it."""

import sys
from pathlib import Path

from llmcore.base.credentials import masked


class UserError(Exception):
    """A mistake the user can correct: the message names the key or file, the rule, the value and the remedy.

    Entry points (`stages`, `llmcore`) print it on stderr without a traceback and exit with code 2.
    Every other exception is a bug in this project and keeps its traceback.
    """


def print_user_error(error: UserError) -> int:
    """Print the error on stderr, one `error: ` line per line, passwords masked; return 2, the exit code."""
    for line in [*masked(str(error)).splitlines(), *_sub_folder_hint(Path.cwd())]:
        print(f"error: {line}", file=sys.stderr)
    return 2


def _sub_folder_hint(folder: Path) -> list[str]:
    """Return what to do where a command was given in a sub-folder of the project: paths are relative to its root."""
    is_root = [(path / "params.yaml").is_file() and (path / "dvc.yaml").is_file() for path in (folder, *folder.parents)]
    if not any(is_root) or is_root[0]:
        return []
    return [f"this folder is inside the project {folder.parents[is_root.index(True) - 1]}; run the command there"]


def root_cause(error: BaseException) -> str:
    """Return the innermost message on one line: libraries wrap "Connection refused" in several exceptions."""
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
