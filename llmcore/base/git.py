"""What git knows of this working tree, asked through its command line."""

import subprocess
from pathlib import Path

DELETED = ""  # stands for the blob of a file that is gone
TIMEOUT_SECONDS = 30  # a tracker asks too, and must not hold a stage for long


def git(folder: str | Path, *arguments: str, input: str | None = None) -> str:
    """Return what a git command prints; raises OSError without git, SubprocessError where git refuses."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    done = subprocess.run(
        command, input=input, capture_output=True, text=True, encoding="utf-8", check=True, timeout=TIMEOUT_SECONDS
    )
    return done.stdout.strip()


def knows(folder: str | Path, *arguments: str) -> bool:
    """Return whether a git command succeeds."""
    try:
        git(folder, *arguments)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def changed_files(folder: str | Path) -> dict[str, str]:
    """Return the tracked files below `folder` that differ from the last commit, by git's name of their content."""
    return _blobs(folder, git(folder, "diff", "--name-only", "--relative", "-z", "HEAD"))


def new_code(folder: str | Path) -> dict[str, str]:
    """Return the Python files that are neither tracked nor ignored, likewise: a stage may import them."""
    return _blobs(folder, git(folder, "ls-files", "--others", "--exclude-standard", "-z", "*.py"))


def _blobs(folder: str | Path, listed: str) -> dict[str, str]:
    names = [name for name in listed.split("\0") if name]
    present = [name for name in names if (Path(folder) / name).is_file()]
    blobs = git(folder, "hash-object", "--stdin-paths", input="\n".join(present) + "\n").split() if present else []
    return dict.fromkeys(names, DELETED) | dict(zip(present, blobs, strict=True))
