"""Mend what a killed DVC left of its own notes: it writes them in place, so a kill then leaves half a file.

    python -m llmcore.dvc.repair

Nothing is lost with them: `.dvc/tmp/rwlock` only says who works here, and what dvc.lock said stands in DVC's
run cache, from which `dvc repro` restores it without running a stage.
"""

import json
import time
from pathlib import Path
from typing import Any

WRITE_SECONDS = 0.5  # a living DVC has finished writing by then


def mend(root: Path) -> list[str]:
    """Remove the notes that cannot be read and return a sentence for each."""
    said = []
    for path, readable in ((root / ".dvc/tmp/rwlock", _is_json), (root / "dvc.lock", _is_lock)):
        if path.is_file() and not readable(path):
            time.sleep(WRITE_SECONDS)
            if path.is_file() and not readable(path):
                path.unlink()
                said.append(f"{path}: removed, a kill had cut it off; `dvc repro` writes it anew")
    return said


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True


def _is_lock(path: Path) -> bool:
    """Return whether DVC accepts a dvc.lock."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from ruamel.yaml import YAML, YAMLError
    from voluptuous import Invalid

    try:
        content: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        COMPILED_LOCKFILE_SCHEMA(content)
    except (FileNotFoundError, UnicodeDecodeError, YAMLError, Invalid):
        return False
    return True


if __name__ == "__main__":
    for sentence in mend(Path()):
        print(sentence)
