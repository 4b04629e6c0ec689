"""Mend truncated files of DVC: it writes them in place, so a kill at that moment leaves half a file.

    python -m llmcore.dvc.repair

Nothing is lost: `.dvc/tmp/rwlock` only lists running processes, and `dvc repro` restores dvc.lock from DVC's run
cache without running a stage. Then the user's own files are looked at: DVC
would only say that a dependency is missing, and hang at a pipe.
"""

import sys
import time
from pathlib import Path
from typing import Any

from llmcore.base.errors import UserError, run_entry_point
from llmcore.base.files import has_conflict_marks, read_bytes, read_yaml
from llmcore.dvc.rwlock import WRITE_SECONDS, mend_rwlock


def remove_truncated(root: Path) -> list[str]:
    """Remove `.dvc/tmp/rwlock` and set dvc.lock aside if DVC cannot read them, and return a message for each.

    UserError if dvc.lock has the marks of a merge conflict: only the user knows which side counts.
    """
    lock = root / "dvc.lock"
    if lock.is_file() and has_conflict_marks(read_bytes(lock)):
        raise UserError(f"{lock}: has the marks of a merge conflict; `git checkout --ours {lock}`, then `dvc repro`")
    messages = [mended] if (mended := mend_rwlock(root)) else []
    if lock.is_file() and not _is_lock(lock):
        time.sleep(WRITE_SECONDS)
        if lock.is_file() and not _is_lock(lock):
            aside = root / ".dvc/tmp/dvc.lock.unreadable"
            aside.parent.mkdir(parents=True, exist_ok=True)
            lock.replace(aside)
            rule = "DVC cannot read it, as after a kill or an edit"
            messages.append(f"{lock}: {rule}; it is now {aside}, and `dvc repro` writes it again")
    return messages


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


def check_own_files(root: Path) -> None:
    """UserError with a line for each own file that params.yaml names and DVC cannot read."""
    params = read_yaml(root / "params.yaml")
    sources = params.get("sources") if isinstance(params, dict) else None
    problems = []
    for item, source in sources.items() if isinstance(sources, dict) else ():
        if isinstance(source, dict) and source.get("kind") == "local" and isinstance(source.get("path"), str):
            path = root / source["path"]
            entries = [path, *(sorted(path.rglob("*")) if path.is_dir() else ())]
            if bad := [entry for entry in entries if not (entry.is_file() or entry.is_dir())]:
                rule = "is no file or folder" if bad[0].exists() else "does not exist"
                problems.append(f"sources.{item}.path: {bad[0]} {rule}; correct the path, or remove the file")
    if problems:
        raise UserError("\n".join(problems))


def main() -> int:
    return run_entry_point(repair, prints_result=False)


def repair() -> None:
    for message in remove_truncated(Path()):
        print(message)
    check_own_files(Path())


if __name__ == "__main__":
    sys.exit(main())
