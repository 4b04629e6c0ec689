"""Find and remove damaged objects in DVC's cache: the MD5 of an object's bytes must equal its name.

DVC does not check objects that are write-protected, which all of them are, and would check out damaged bytes.
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
    """An object whose bytes do not have the MD5 in its name, and the outputs that contain it."""

    object: Path
    name: str  # MD5; with `.dir`, the list of a folder's files
    owners: list[tuple[str, Path]] = field(default_factory=list)  # stage, path in the workspace

    def line(self) -> str:
        """Return a line that names the object and its outputs."""
        owners = ", ".join(f"{path} of {stage}" for stage, path in self.owners)
        return f"damaged: {self.object} ({owners or 'belongs to no output of dvc.lock'})"


def cache_folder(root: Path) -> Path:
    """Return the cache folder of the DVC repository at `root`; UserError if there is no repository."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        return Path(Repo(str(root)).cache.local.path)
    except DvcException as error:
        raise UserError(f"{root}: must be a DVC repository ({error}); run from the project's root") from None


def find_damage(root: Path, cache: Path) -> list[Damaged]:
    """Return every damaged object of `cache`, with the outputs in `root/dvc.lock` that contain it."""
    owners = _owners(root, cache)
    return [
        Damaged(path, name, owners.get(name, []))
        for path in sorted(cache.glob("??/*"))
        if (name := _object_name(path)) and md5(path) != name.removesuffix(".dir")
    ]


def repair(damage: list[Damaged], root: Path) -> None:
    """Delete damaged objects and their copies in the workspace; `dvc repro` then builds both again."""
    for damaged in damage:
        with user_errors(damaged.object):
            damaged.object.unlink(missing_ok=True)
            for _, path in damaged.owners:
                copy = root / path
                if copy.is_file() and md5(copy) != damaged.name:
                    copy.unlink()


def _object_name(path: Path) -> str | None:
    """Return the name of an object, None for other files, such as those of an interrupted write."""
    found = OBJECT.search(path.as_posix())
    return "".join(part or "" for part in found.groups()) if found else None


def _owners(root: Path, cache: Path) -> dict[str, list[tuple[str, Path]]]:
    """Return stage and path of each output in dvc.lock, and of each file in it, by the name of the object."""
    owners: dict[str, list[tuple[str, Path]]] = {}
    for stage, entry in read_lock(root / LOCK_FILE).items():
        for path, name in entry.outs.items():
            owners.setdefault(name, []).append((stage, Path(path)))
            for file, inner in _listing(cache, name):
                owners.setdefault(file, []).append((stage, Path(path, inner)))
    return owners


def _listing(cache: Path, name: str) -> list[tuple[str, str]]:
    """Return the MD5 and path of each file of a folder; none if the object with the list is missing or damaged."""
    if not name.endswith(".dir"):
        return []
    try:
        return [(entry["md5"], entry["relpath"]) for entry in json.loads((cache / name[:2] / name[2:]).read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):
        return []
