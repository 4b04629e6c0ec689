"""Checkpoints on disk: `step-000500/` holds tensors, facts, and a marker with the hashes of both.

A checkpoint appears whole or not at all: it is written under a temporary name, synced, the marker last,
and renamed. Damage done to it later is found by the hashes.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcore.base.errors import UserError
from llmcore.base.files import sha256_file, user_errors, write_json

if TYPE_CHECKING:
    from torch import Tensor

TENSORS = "state.safetensors"
FACTS = "state.json"
MARKER = "complete.json"
TEMPORARY = ".new-"  # prefix of what a killed process left


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` optimizer steps; `facts` is a JSON value, its order of keys kept."""

    step: int
    tensors: dict[str, "Tensor"]
    facts: dict[str, Any]


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, whole or damaged, the oldest first."""
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def write_checkpoint(folder: Path, checkpoint: Checkpoint, *, kept: int) -> None:
    """Write a checkpoint below `folder` and remove all but the newest `kept`; UserError if it cannot be written."""
    from safetensors.torch import save_file  # imported here: stages without torch look at these folders too

    target = folder / f"step-{checkpoint.step:06d}"
    temporary = folder / f"{TEMPORARY}{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with user_errors(target):
            temporary.mkdir()
            save_file(checkpoint.tensors, temporary / TENSORS)  # from their memory, without a second copy
            (temporary / FACTS).write_text(json.dumps(checkpoint.facts), encoding="utf-8")
            for name in (TENSORS, FACTS):
                _sync(temporary / name)
            write_json(temporary / MARKER, {name: sha256_file(temporary / name) for name in (TENSORS, FACTS)})
            if target.exists():  # left by another process: a folder is only renamed to a free name
                shutil.rmtree(target)
            os.rename(temporary, target)
            _sync(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for old in checkpoint_folders(folder)[:-kept]:
        shutil.rmtree(old, ignore_errors=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint back; ValueError with the reason if it is not what was written."""
    from safetensors.torch import load_file

    try:
        hashes = json.loads((path / MARKER).read_bytes())
        if missing := [name for name in (TENSORS, FACTS) if not (path / name).exists()]:
            raise ValueError(f"{missing[0]} is missing")
        found = {name: sha256_file(path / name) for name in (TENSORS, FACTS)}
    except FileNotFoundError:
        raise ValueError(f"{MARKER} is missing") from None
    except (OSError, ValueError, UserError) as error:
        raise ValueError(str(error)) from None
    for name, digest in found.items():
        if not isinstance(hashes, dict) or hashes.get(name) != digest:
            raise ValueError(f"{name} differs from its hash")
    facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
    return Checkpoint(int(path.name.removeprefix("step-")), load_file(path / TENSORS), facts)


def _sync(path: Path) -> None:
    """Sync a file or a folder to the disk, so that it survives a power cut; not every system can sync folders."""
    if os.name == "posix" or path.is_file():
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
