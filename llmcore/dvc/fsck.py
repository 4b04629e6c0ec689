"""Look for damage in DVC's cache: each object's bytes must have the MD5 that is its name.

DVC trusts objects that are write-protected, as all of them are, and would hand damaged bytes to the workspace.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.files import user_errors
from llmcore.dvc.files import LOCK_FILE, md5, read_lock

OBJECT = re.compile(r"([0-9a-f]{2})/([0-9a-f]{30})(\.dir)?$")


@dataclass(frozen=True)
class Damaged:
    """An object that is not what its name says, and the outputs of stages that it belongs to."""

    object: Path
    name: str  # MD5, with `.dir` for the list of a folder's files
    owners: list[tuple[str, Path]] = field(default_factory=list)  # stage, path in the workspace

    def line(self) -> str:
        owners = ", ".join(f"{path} of {stage}" for stage, path in self.owners)
        return f"damaged: {self.object} ({owners or 'belongs to no output of dvc.lock'})"


def cache_folder(root: Path) -> Path:
    """Return where the repository at `root` keeps its objects; a user may have moved it."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        return Path(Repo(str(root)).cache.local.path)
    except DvcException as error:
        raise UserError(f"{root}: must be a DVC repository ({error}); run from the project's root") from None


def find_damage(root: Path, cache: Path) -> list[Damaged]:
    """Return every object of `cache` whose bytes do not have its name, with the outputs of `root/dvc.lock` it is in."""
    owners = _owners(root, cache)
    return [
        Damaged(path, name, owners.get(name, []))
        for path in sorted(cache.glob("??/*"))
        if (name := _object_name(path)) and md5(path) != name.removesuffix(".dir")
    ]


def repair(damage: list[Damaged], root: Path) -> None:
    """Remove damaged objects, and what was copied from them into the workspace; `dvc repro` then rebuilds both."""
    for damaged in damage:
        with user_errors(damaged.object):
            damaged.object.unlink(missing_ok=True)
            for _, path in damaged.owners:
                copy = root / path
                if copy.is_file() and md5(copy) != damaged.name:
                    copy.unlink()


def _object_name(path: Path) -> str | None:
    """Return the name of an object; None for what is none, as leftovers of a write that broke off."""
    found = OBJECT.search(path.as_posix())
    return "".join(part or "" for part in found.groups()) if found else None


def _owners(root: Path, cache: Path) -> dict[str, list[tuple[str, Path]]]:
    """Return, by object name, the stage and path of each output that dvc.lock records, and of each file inside."""
    owners: dict[str, list[tuple[str, Path]]] = {}
    for stage, entry in read_lock(root / LOCK_FILE).items():
        for path, name in entry.outs.items():
            owners.setdefault(name, []).append((stage, Path(path)))
            for file, inner in _listing(cache, name):
                owners.setdefault(file, []).append((stage, Path(path, inner)))
    return owners


def _listing(cache: Path, name: str) -> list[tuple[str, str]]:
    """Return MD5 and path of each file of a folder; nothing where the list itself is missing or damaged."""
    if not name.endswith(".dir"):
        return []
    try:
        return [(entry["md5"], entry["relpath"]) for entry in json.loads((cache / name[:2] / name[2:]).read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):
        return []
