"""The key of a training: all that decides its bytes, so that a state is resumed only where it belongs."""

import hashlib
from pathlib import Path
from typing import Any

from llmcore.errors import UserError
from llmcore.files import json_text, sha256_file

Parts = dict[str, dict[str, Any]]  # kind of part ("params", "inputs", "code", "machine") -> name -> value or hash


def key_of(parts: Parts) -> str:
    """Return the key, 16 hex digits of a SHA-256."""
    return hashlib.sha256(json_text(parts).encode()).hexdigest()[:16]


def code_hashes(stage: str, pipeline: str | Path = "dvc.yaml") -> dict[str, str]:
    """Return the hash of each code file that `pipeline` names as a dependency of `stage`."""
    from ruamel.yaml import YAML, YAMLError

    try:
        stages = YAML(typ="safe").load(Path(pipeline).read_text(encoding="utf-8"))["stages"]
        return {path: sha256_file(path) for path in stages[stage]["deps"] if path.endswith(".py")}
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such file; run from the repository's root") from None
    except (KeyError, TypeError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{pipeline}: must name the deps of stage {stage} ({reason}); restore the file") from None


def differences(old: Parts, new: Parts) -> list[str]:
    """Say which parts differ, values where a person knows them: `pretrain.lr 0.004 -> 0.001`."""
    said = []
    for kind in sorted(old.keys() | new.keys()):
        before, after = old.get(kind, {}), new.get(kind, {})
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                hashed = kind in ("inputs", "code")
                change = "differs" if hashed else f"{before.get(name, 'none')} -> {after.get(name, 'none')}"
                said.append(f"{'input ' if kind == 'inputs' else ''}{name} {change}")
    return said
