"""Checkpoints on disk: `step-000500/` holds tensors, facts, and a marker with the hashes of both.

A checkpoint appears whole or not at all: it is written under a temporary name, synced, the marker last,
and renamed. Damage done to it later is found by the hashes.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcore.files import json_text

if TYPE_CHECKING:
    from torch import Tensor

TENSORS, FACTS, MARKER = "state.safetensors", "state.json", "complete.json"
TEMPORARY = ".new-"  # a name that begins so is what a killed process left


@dataclass(frozen=True)
class Checkpoint:
    """A training after `step` optimizer steps; `facts` is a JSON value whose order of keys is kept."""

    step: int
    tensors: dict[str, "Tensor"]
    facts: dict[str, Any]


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, whole or damaged, the oldest first."""
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def write_checkpoint(folder: Path, checkpoint: Checkpoint, *, kept: int) -> None:
    """Write a checkpoint below `folder` and remove all but the newest `kept`; OSError where the disk refuses."""
    from safetensors.torch import save  # here, for stages without torch look at these folders too

    target = folder / f"step-{checkpoint.step:06d}"
    temporary = folder / f"{TEMPORARY}{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        contents = {TENSORS: save(checkpoint.tensors), FACTS: json.dumps(checkpoint.facts).encode()}
        for name, data in contents.items():
            _write_synced(temporary / name, data)
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        _write_synced(temporary / MARKER, json_text(hashes).encode())
        if target.exists():  # of another's: a folder is only renamed to a free name
            shutil.rmtree(target)
        os.rename(temporary, target)
        _sync_folder(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for old in checkpoint_folders(folder)[:-kept]:
        shutil.rmtree(old, ignore_errors=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint back; ValueError with the reason if it is not what was written."""
    try:
        hashes = json.loads((path / MARKER).read_bytes())
        contents = {name: (path / name).read_bytes() for name in (TENSORS, FACTS)}
    except FileNotFoundError as error:
        raise ValueError(f"{Path(error.filename).name} is missing") from None
    except (OSError, ValueError) as error:
        raise ValueError(str(error)) from None
    for name, data in contents.items():
        if not isinstance(hashes, dict) or hashes.get(name) != hashlib.sha256(data).hexdigest():
            raise ValueError(f"{name} differs from its hash")
    from safetensors.torch import load

    step = int(path.name.removeprefix("step-"))
    return Checkpoint(step, load(contents[TENSORS]), json.loads(contents[FACTS]))


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; not every system lets folders be synced."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
