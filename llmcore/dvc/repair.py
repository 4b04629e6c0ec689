"""Set aside truncated files of DVC: it writes them in place, so a kill at that moment leaves half a file.

    python -m llmcore.dvc.repair

Nothing is lost: `.dvc/tmp/rwlock` only lists running processes, and `dvc repro` restores dvc.lock from DVC's run
cache without running a stage. What is set aside lies in `.dvc/tmp`. Then the user's own files are looked at: DVC
would only say that a dependency is missing, and hang at a pipe.
"""

import sys
import time
from pathlib import Path
from typing import Any

from llmcore.base.errors import UserError, print_user_error
from llmcore.base.files import has_conflict_marks, parse_json, read_bytes, read_yaml

WRITE_SECONDS = 0.5  # a running DVC has finished writing by then


def remove_truncated(root: Path) -> list[str]:
    """Set `.dvc/tmp/rwlock` and dvc.lock aside if DVC cannot read them, and return a message for each.

    UserError if dvc.lock has the marks of a merge conflict: only the user knows which side counts.
    """
    lock = root / "dvc.lock"
    if lock.is_file() and has_conflict_marks(read_bytes(lock)):
        raise UserError(f"{lock}: has the marks of a merge conflict; `git checkout --ours {lock}`, then `dvc repro`")
    messages = []
    for path, readable in ((root / ".dvc/tmp/rwlock", _is_json), (lock, _is_lock)):
        if path.is_file() and not readable(path):
            time.sleep(WRITE_SECONDS)
            if path.is_file() and not readable(path):
                aside = root / ".dvc/tmp" / f"{path.name}.unreadable"
                aside.parent.mkdir(parents=True, exist_ok=True)
                path.replace(aside)
                rule = "DVC cannot read it, as after a kill or an edit"
                messages.append(f"{path}: {rule}; it is now {aside}, and `dvc repro` writes it again")
    return messages


def _is_json(path: Path) -> bool:
    try:
        parse_json(path.read_text(encoding="utf-8"))
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
    try:
        for message in remove_truncated(Path()):
            print(message)
        check_own_files(Path())
    except UserError as error:
        return print_user_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
