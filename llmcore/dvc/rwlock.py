"""DVC's list of running processes, `.dvc/tmp/rwlock`: a kill while DVC writes it leaves a file that DVC cannot read."""

import time
from pathlib import Path
from typing import Any

from llmcore.base.files import parse_json

WRITE_SECONDS = 0.5  # a running DVC has finished writing by then


def mend_rwlock(root: Path) -> str | None:
    """Remove the list if DVC could not read it, and return a message; None if there is nothing to mend.

    Nothing is lost: the processes that it listed have ended, or DVC writes it again for them.
    """
    path = root / ".dvc/tmp/rwlock"
    if not path.is_file() or read_rwlock(root) is not None:
        return None
    time.sleep(WRITE_SECONDS)
    if not path.is_file() or read_rwlock(root) is not None:
        return None
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return f"{path}: DVC was killed while it wrote it ({error.strerror}); remove it"
    return f"{path}: DVC was killed while it wrote it; it is removed, and DVC makes a new one"


def read_rwlock(root: Path) -> dict[str, Any] | None:
    """Return the content of the list, None if it is missing or DVC could not read it."""
    try:
        content = parse_json((root / ".dvc/tmp/rwlock").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
