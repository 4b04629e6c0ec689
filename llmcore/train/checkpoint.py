"""Checkpoints on disk: `step-000500/` holds tensors, facts, and a marker with the hashes of both.

A checkpoint appears whole or not at all: it is written under a temporary name, synced, the marker last,
and renamed. Damage done to it later is found by the hashes.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    return sorted(folder.glob("step-*"), key=step_of)


def write_checkpoint(folder: Path, checkpoint: Checkpoint, *, kept: int) -> None:
    """Write a checkpoint below `folder` and remove all but the newest `kept`; UserError if it cannot be written."""
    with new_checkpoint(folder, checkpoint.step) as temporary:
        temporary.mkdir()
        hashes = {TENSORS: write_tensors(temporary / TENSORS, checkpoint.tensors)}
        complete(temporary, checkpoint.facts, hashes)
    remove_old(folder, kept)


@contextmanager
def new_checkpoint(folder: Path, step: int) -> Iterator[Path]:
    """Yield the temporary name of a checkpoint; the body completes the folder, or it is removed."""
    temporary = temporary_folder(folder, step)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with user_errors(_target(temporary)):
            yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def temporary_folder(folder: Path, step: int) -> Path:
    """Return the name of a checkpoint until it is complete."""
    return folder / f"{TEMPORARY}step-{step:06d}"


def _target(temporary: Path) -> Path:
    return temporary.with_name(temporary.name.removeprefix(TEMPORARY))


def write_tensors(path: Path, tensors: "dict[str, Tensor]") -> str:
    """Write tensors from their memory, without a second copy, and return the file's hash."""
    from safetensors.torch import save_file  # imported here: stages without torch look at these folders too

    save_file(tensors, path)
    _sync(path)
    return sha256_file(path)


def complete(temporary: Path, facts: dict[str, Any], hashes: dict[str, str]) -> None:
    """Write what is no tensor, then the marker with the hashes of all files, and give the folder its name."""
    (temporary / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    _sync(temporary / FACTS)
    write_json(temporary / MARKER, hashes | {FACTS: sha256_file(temporary / FACTS)})
    target = _target(temporary)
    if target.exists():  # left by another process: a folder is only renamed to a free name
        shutil.rmtree(target)
    os.rename(temporary, target)
    _sync(target.parent)


def remove_old(folder: Path, kept: int) -> None:
    """Remove all checkpoints but the newest `kept`."""
    for old in checkpoint_folders(folder)[:-kept]:
        shutil.rmtree(old, ignore_errors=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint back; ValueError with the reason if it is not what was written."""
    from safetensors.torch import load_file

    facts = read_facts(path, [TENSORS])
    return Checkpoint(step_of(path), load_file(path / TENSORS), facts)


def read_facts(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """Return what is no tensor; ValueError with the reason if a file of the checkpoint is not what was written.

    Its files are those that the marker names, and those `needed`.
    """
    try:
        hashes = json.loads((path / MARKER).read_bytes())
        names = dict.fromkeys([*needed, FACTS, *hashes])
        if missing := [name for name in names if not (path / name).exists()]:
            raise ValueError(f"{missing[0]} is missing")
        found = {name: sha256_file(path / name) for name in names}
    except FileNotFoundError:
        raise ValueError(f"{MARKER} is missing") from None
    except (OSError, ValueError, UserError) as error:
        raise ValueError(str(error)) from None
    for name, digest in found.items():
        if not isinstance(hashes, dict) or hashes.get(name) != digest:
            raise ValueError(f"{name} differs from its hash")
    facts: dict[str, Any] = json.loads((path / FACTS).read_text(encoding="utf-8"))
    return facts


def step_of(path: Path) -> int:
    """Return the number of steps after which a checkpoint was written: its folder's name has it."""
    return int(path.name.removeprefix("step-"))


def _sync(path: Path) -> None:
    """Sync a file or a folder to the disk, so that it survives a power cut; not every system can sync folders."""
    if os.name == "posix" or path.is_file():
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
