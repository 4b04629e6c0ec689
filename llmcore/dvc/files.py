"""DVC's files and hashes, read without importing DVC, which takes a second: dvc.yaml, dvc.lock, MD5."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcore.base.containers import flat
from llmcore.base.errors import UserError
from llmcore.base.files import read_yaml, sha256_file

LOCK_FILE = Path("dvc.lock")
STAGES_FILE = Path("dvc.yaml")
PARAMS_FILE = Path("params.yaml")
UNKNOWN = "${...}"  # stands for a path of dvc.yaml with a variable that params.yaml does not have


@dataclass(frozen=True)
class Locked:
    """A stage in dvc.lock: the hashes of its dependencies and outputs by path, its params under dotted keys."""

    name: str
    deps: Mapping[str, str]
    outs: Mapping[str, str]
    params: Mapping[str, Any]

    def code(self) -> dict[str, str]:
        """Return the hashes of the code dependencies."""
        return {path: md5 for path, md5 in self.deps.items() if is_code(path)}

    def inputs(self) -> dict[str, str]:
        """Return the hashes of the other dependencies."""
        return {path: md5 for path, md5 in self.deps.items() if not is_code(path)}


def is_code(path: str) -> bool:
    """Return whether a dependency is code of this project; all others are inputs."""
    return path.endswith(".py")


def read_lock(path: Path = LOCK_FILE) -> dict[str, Locked]:
    """Return the stages of a dvc.lock by name, none if the file does not exist; UserError if it is broken."""
    stages = (read_yaml(path) or {}).get("stages", {}) if path.is_file() else {}
    return {
        name: Locked(
            name,
            {dep["path"]: str(dep.get("md5", "")) for dep in entry.get("deps", [])},
            {out["path"]: str(out.get("md5", "")) for out in entry.get("outs", [])},
            {key: leaf for file in entry.get("params", {}).values() for key, leaf in flat(file).items()},
        )
        for name, entry in stages.items()
    }


def code_hashes(stage: str, pipeline: str | Path = "dvc.yaml") -> dict[str, str]:
    """Return the SHA-256 of each code dependency of `stage` in the file `pipeline`."""
    try:
        stages = read_yaml(pipeline)["stages"]
        return {path: sha256_file(path) for path in stages[stage]["deps"] if path.endswith(".py")}
    except (KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{pipeline}: must have the deps of stage {stage} ({reason}); restore the file") from None


def stage_paths(stage: str, stages: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the paths of a stage's inputs, without code, and of its outputs, with `params` filled in.

    `stages` is the mapping of dvc.yaml; `stage` may be an item of a `foreach`: `download@text`.
    """
    base, _, key = stage.partition("@")
    entry = stages.get(base, {})
    each = entry.get("foreach", "")
    entry = entry.get("do", entry)
    values = {key_: str(value) for key_, value in flat(params).items()} | {"key": key, "item": key}
    if group := re.fullmatch(r"\$\{(.+)\}", each if isinstance(each, str) else ""):
        values |= {f"item.{name.removeprefix(f'{group[1]}.{key}.')}": value for name, value in values.items()}
    paths = {kind: [_path(entry_) for entry_ in entry.get(kind, [])] for kind in ("deps", "outs", "metrics")}
    filled = {kind: [_fill(path, values) for path in named] for kind, named in paths.items()}
    inputs = [path for path in filled["deps"] if not is_code(path) and path != UNKNOWN]
    return inputs, filled["outs"] + filled["metrics"]


def _path(entry: Any) -> str:
    """Return the path of an output, which may have options: `path: {cache: false}`."""
    return next(iter(entry)) if isinstance(entry, Mapping) else str(entry)


def _fill(path: str, values: Mapping[str, str]) -> str:
    names = re.findall(r"\$\{(.+?)\}", path)
    if not all(name in values for name in names):
        return UNKNOWN
    return re.sub(r"\$\{(.+?)\}", lambda found: values[found[1]], path)


def hash_of(path: Path) -> str | None:
    """Return DVC's hash of a file or folder, None if `path` does not exist."""
    if path.is_dir():
        return listing_hash(listing(path))
    return md5(path) if path.is_file() else None


def listing(folder: Path) -> dict[str, str]:
    """Return the MD5 of each file below a folder by its relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): md5(path) for path in files}


def listing_hash(files: Mapping[str, str]) -> str:
    """Return DVC's hash of a folder: the MD5 of the JSON list of its files."""
    rows = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(rows).encode()).hexdigest() + ".dir"


def md5(path: Path) -> str:
    """Return a file's MD5, DVC's hash of it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
