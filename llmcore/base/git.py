"""Git's command line: the only place that runs it."""

import os
import subprocess
from pathlib import Path

from llmcore.base.credentials import masked

DELETED = ""  # stands for the blob of a deleted file
TIMEOUT_SECONDS = 30.0  # the tracker calls git too, and must not delay a stage for long


def git(
    folder: str | Path, *arguments: str, input: str | None = None, timeout_seconds: float | None = TIMEOUT_SECONDS
) -> str:
    """Return the stripped output of a git command run in `folder`.

    Raises OSError if git is not installed, SubprocessError if git fails or takes longer than `timeout_seconds`.
    """
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    done = subprocess.run(
        command,
        input=input,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        timeout=timeout_seconds,
        env=os.environ | {"LC_ALL": "C"},  # messages in English, for `git_problem`
    )
    return done.stdout.strip()


def git_error(error: OSError | subprocess.SubprocessError) -> str:
    """Return why `git` failed, in one line, without passwords."""
    stderr = getattr(error, "stderr", None)
    return masked(" ".join(str(stderr or error).split()))


def git_problem(folder: str | Path) -> str | None:
    """Return why git refuses to work in `folder`, in its own words, which name the remedy; None if it works there.

    It may say that the repository belongs to another user, or is damaged. None also where there is no repository and
    where git is not installed: a project needs neither.
    """
    try:
        git(folder, "rev-parse", "--git-dir")
    except FileNotFoundError:
        return None
    except (OSError, subprocess.SubprocessError) as error:
        reason = git_error(error)
        return None if "not a git repository (or any" in reason else reason
    return None


def git_succeeds(folder: str | Path, *arguments: str) -> bool:
    """Return whether a git command succeeds; False also where git is not installed."""
    try:
        git(folder, *arguments)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def is_committed(folder: str | Path, name: str) -> bool:
    """Return whether the last commit has the file `name` in `folder` with its present content."""
    try:
        return git(folder, "rev-parse", f"HEAD:./{name}") == git(folder, "hash-object", name)
    except (OSError, subprocess.SubprocessError):
        return False


def changed_files(folder: str | Path) -> dict[str, str]:
    """Return the tracked files below `folder` that differ from the last commit: path -> blob name of the content."""
    return _blobs(folder, git(folder, "diff", "--name-only", "--relative", "-z", "HEAD"))


def new_code(folder: str | Path) -> dict[str, str]:
    """Return the Python files below `folder` that are neither tracked nor ignored: path -> blob name of the content.

    A stage may import them.
    """
    return _blobs(folder, git(folder, "ls-files", "--others", "--exclude-standard", "-z", "*.py"))


def _blobs(folder: str | Path, listed: str) -> dict[str, str]:
    names = [name for name in listed.split("\0") if name]
    present = [name for name in names if (Path(folder) / name).is_file()]
    blobs = git(folder, "hash-object", "--stdin-paths", input="\n".join(present) + "\n").split() if present else []
    return dict.fromkeys(names, DELETED) | dict(zip(present, blobs, strict=True))
