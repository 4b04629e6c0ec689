"""Presets: complete alternatives to params.yaml, put in its place whole."""

import subprocess
from pathlib import Path
from typing import Any

from llmcore.base.containers import flat
from llmcore.base.errors import UserError
from llmcore.base.files import read_yaml, write_bytes
from llmcore.config.read import PARAMS_FILE, check_params


def preset_names(root: Path) -> list[str]:
    """Return the names of the files in presets/."""
    return sorted(path.stem for path in (root / "presets").glob("*.yaml"))


def apply_preset(root: Path, name: str, *, force: bool) -> str:
    """Copy a preset over params.yaml and return what changed, a line a key.

    UserError if there is no such preset, or if params.yaml holds edits that neither git nor a preset has
    and `force` is not given; it is untouched then.
    """
    if name not in preset_names(root):
        known = ", ".join(preset_names(root)) or "none; run from the repository's root"
        raise UserError(f"NAME: must be one of the files in presets/ ({known}), got {name!r}; choose one")
    source, target = root / "presets" / f"{name}.yaml", root / PARAMS_FILE
    values = read_yaml(source)
    check_params(values, str(source))
    before = target.read_bytes() if target.is_file() else b""
    if not force and before and not _saved_elsewhere(root, before):
        rule = "holds edits that neither a commit nor a preset has"
        raise UserError(f"{PARAMS_FILE}: {rule}; commit them, or call with --force to lose them")
    changes = _differences(flat(_read_old(target)), flat(values))
    write_bytes(target, source.read_bytes())
    return "\n".join([*changes, f"{PARAMS_FILE} is now preset {name}; run `dvc repro`"])


def _read_old(path: Path) -> Any:
    """Return the values about to be replaced; a missing or broken file has none."""
    try:
        return read_yaml(path)
    except UserError:
        return {}


def _saved_elsewhere(root: Path, content: bytes) -> bool:
    if any(path.read_bytes() == content for path in (root / "presets").glob("*.yaml")):
        return True
    command = ["git", "show", f"HEAD:./{PARAMS_FILE}"]
    try:
        committed = subprocess.run(command, cwd=root, capture_output=True)
    except FileNotFoundError:  # no git on this machine
        return False
    return committed.returncode == 0 and committed.stdout == content


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    keys = [*after, *(key for key in before if key not in after)]
    return [f"{k}: {before.get(k)!r} -> {after.get(k)!r}" for k in keys if before.get(k) != after.get(k)]
