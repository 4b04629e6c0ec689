"""Presets: complete alternatives to params.yaml."""

from pathlib import Path
from typing import Any

from llmcore.base.containers import flat
from llmcore.base.errors import UserError
from llmcore.base.files import read_yaml, write_bytes
from llmcore.base.git import is_committed
from llmcore.config.read import PARAMS_FILE, check_params


def preset_names(root: Path) -> list[str]:
    """Return the names of the files in presets/."""
    return sorted(path.stem for path in (root / "presets").glob("*.yaml"))


def apply_preset(root: Path, name: str, *, force: bool) -> str:
    """Copy a preset over params.yaml and return the changes, one line per key.

    UserError if there is no such preset, or if params.yaml has edits that neither the last commit nor a preset
    has and `force` is false; params.yaml is not touched then.
    """
    if name not in preset_names(root):
        known = ", ".join(preset_names(root)) or "none; run from the repository's root"
        raise UserError(f"NAME: must be one of the files in presets/ ({known}), got {name!r}; choose one")
    source = root / "presets" / f"{name}.yaml"
    target = root / PARAMS_FILE
    values = read_yaml(source)
    check_params(values, str(source))
    if not force and target.is_file() and not _is_saved(root):
        rule = "holds edits that neither a commit nor a preset has"
        raise UserError(f"{PARAMS_FILE}: {rule}; commit them, or call with --force to lose them")
    changes = _differences(flat(_read_old(target)), flat(values))
    write_bytes(target, source.read_bytes())
    return "\n".join([*changes, f"{PARAMS_FILE} is now preset {name}; run `dvc repro`"])


def _read_old(path: Path) -> Any:
    """Return the present values; none if the file is missing or broken."""
    try:
        return read_yaml(path)
    except UserError:
        return {}


def _is_saved(root: Path) -> bool:
    """Return whether a preset or the last commit has the content of params.yaml, or the file is empty."""
    content = (root / PARAMS_FILE).read_bytes()
    if not content or any(path.read_bytes() == content for path in (root / "presets").glob("*.yaml")):
        return True
    return is_committed(root, PARAMS_FILE.as_posix())


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    keys = [*after, *(key for key in before if key not in after)]
    return [f"{k}: {before.get(k)!r} -> {after.get(k)!r}" for k in keys if before.get(k) != after.get(k)]
