"""Remove truncated files of DVC: it writes them in place, so a kill at that moment leaves half a file.

    python -m llmcore.dvc.repair

Nothing is lost: `.dvc/tmp/rwlock` only lists running processes, and `dvc repro` restores dvc.lock from DVC's run
cache without running a stage.
"""

import json
import time
from pathlib import Path
from typing import Any

WRITE_SECONDS = 0.5  # a running DVC has finished writing by then


def remove_truncated(root: Path) -> list[str]:
    """Delete `.dvc/tmp/rwlock` and dvc.lock if they are truncated, and return a message for each deleted file."""
    messages = []
    for path, readable in ((root / ".dvc/tmp/rwlock", _is_json), (root / "dvc.lock", _is_lock)):
        if path.is_file() and not readable(path):
            time.sleep(WRITE_SECONDS)
            if path.is_file() and not readable(path):
                path.unlink()
                messages.append(f"{path}: was truncated by a kill and is removed; `dvc repro` writes it again")
    return messages


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True


def _is_lock(path: Path) -> bool:
    """Return whether DVC accepts a dvc.lock."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from voluptuous import Invalid

    try:
        content: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        COMPILED_LOCKFILE_SCHEMA(content)
    except (FileNotFoundError, UnicodeDecodeError, YAMLError, Invalid):
        return False
    return True


if __name__ == "__main__":
    for message in remove_truncated(Path()):
        print(message)
