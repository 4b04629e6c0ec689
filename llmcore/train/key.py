"""The key of a training: all that decides its bytes, so that only the same training resumes a checkpoint."""

import hashlib
from typing import Any

from llmcore.base.files import json_text

Parts = dict[str, dict[str, Any]]  # kind of part ("params", "inputs", "code", "machine") -> name -> value or hash


def key_of(parts: Parts) -> str:
    """Return the key, 16 hex digits of a SHA-256."""
    return hashlib.sha256(json_text(parts).encode()).hexdigest()[:16]


def differences(old: Parts, new: Parts) -> list[str]:
    """Name the parts that differ, with values where a person knows them: `pretrain.lr 0.004 -> 0.001`."""
    changes = []
    for kind in sorted(old.keys() | new.keys()):
        before, after = old.get(kind, {}), new.get(kind, {})
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                hashed = kind in ("inputs", "code")
                change = "differs" if hashed else f"{before.get(name, 'none')} -> {after.get(name, 'none')}"
                changes.append(f"{'input ' if kind == 'inputs' else ''}{name} {change}")
    return changes
