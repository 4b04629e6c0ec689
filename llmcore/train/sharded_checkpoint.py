"""Checkpoints of a sharded training: each process writes its part of each tensor, the first one the rest too.

A part is some rows of a tensor, and the parts of all processes in their order are the tensor: any number of processes
can read them. safetensors files, because torch.distributed.checkpoint keeps a pickle beside its own.
"""

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from llmcore.base import parallel
from llmcore.base.errors import UserError
from llmcore.base.files import user_errors
from llmcore.train.checkpoint import (
    Checkpoint,
    complete,
    new_checkpoint,
    read_facts,
    remove_old,
    step_of,
    temporary_folder,
    write_tensors,
)
from llmcore.train.resume import DiskCheckpointer, newest_whole
from llmcore.train.state import State, trained_parameters


class ShardedCheckpointer(DiskCheckpointer):
    """The checkpoints of one training, in a folder that all processes see. Each waits until all have written."""

    def restore(self, state: State) -> None:
        """Restore state and history from the newest checkpoint that the first process finds whole."""
        found = parallel.from_first(newest_whole(self._folder, _checked) if parallel.is_first() else None)
        if found:
            path, facts = found
            self._become(state, Checkpoint(step_of(path), _read_parts(path, state), facts))

    def after_step(self, state: State, *, last: bool) -> None:
        """Save the training as it stands, if the first process finds that due."""
        if parallel.from_first(last or self._due(state.step)):
            self._write(self._taken(state))

    def _save(self, checkpoint: Checkpoint) -> None:
        temporary = temporary_folder(self._folder, checkpoint.step)
        with new_checkpoint(self._folder, checkpoint.step) if parallel.is_first() else nullcontext():
            if parallel.is_first():
                with suppress(OSError):  # then no process can write its part, and says why
                    temporary.mkdir()
            parallel.from_first(None)  # the folder is there
            hashes = _write_parts(temporary, checkpoint)
            if parallel.is_first():
                complete(temporary, checkpoint.facts, hashes)
                remove_old(self._folder, self._runtime.checkpoints_kept)


def _write_parts(folder: Path, checkpoint: Checkpoint) -> dict[str, str]:
    """Write what this process has; return the names of all processes' files with their hashes, or raise for all."""
    tensors: dict[str, Any] = checkpoint.tensors
    parts = {name: tensor.to_local() for name, tensor in tensors.items() if _is_sharded(tensor)}
    if parallel.is_first():
        parts = tensors | parts

    def write(number: int) -> tuple[str, str | UserError]:
        name = f"state-{number:05d}-of-{parallel.n_processes():05d}.safetensors"
        try:
            with user_errors(folder):
                return name, write_tensors(folder / name, parts)
        except UserError as error:
            return name, error

    hashes = {}
    for name, result in parallel.map_parts(write, range(parallel.n_processes())):
        if isinstance(result, UserError):
            raise result
        hashes[name] = result
    return hashes


def _checked(path: Path) -> tuple[Path, dict[str, Any]]:
    return path, read_facts(path)


def _read_parts(path: Path, state: State) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint; of a sharded parameter and its optimizer state, the rows of this process."""
    parameters = trained_parameters(state.model)
    tensors = {}
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(file, "pt")) for file in sorted(path.glob("state-*-of-*.safetensors"))]
        if not files:
            raise UserError(f"{path}: must be a folder that every machine sees, and this one does not; share .ckpt")
        for name in files[0].keys():  # noqa: SIM118 (no dict)
            parameter = parameters.get(name.rpartition("/")[2])
            holders = [file for file in files if name in file.keys()]  # noqa: SIM118
            if not files[0].get_slice(name).get_shape():
                tensors[name] = files[0].get_tensor(name)
            elif parameter is None or not _is_sharded(parameter):
                tensors[name] = torch.cat([file.get_tensor(name) for file in holders])
            else:
                tensors[name] = _like(parameter, holders, name)
    return tensors


def _like(parameter: Any, files: Sequence[Any], name: str) -> Tensor:
    """Return a tensor sharded as `parameter`; each file has the rows that follow those of the file before."""
    from torch.distributed.tensor import DTensor

    mine = parameter.to_local()
    begin = min(parallel.rank() * -(-len(parameter) // parallel.n_processes()), len(parameter))
    rows, seen = [], 0
    for part in (file.get_slice(name) for file in files):
        length = part.get_shape()[0]
        first, stop = (min(max(row - seen, 0), length) for row in (begin, begin + len(mine)))
        rows.append(part[first:stop])
        seen += length
    local = torch.cat(rows).to(mine.device)
    mesh, placements = parameter.device_mesh, parameter.placements
    return DTensor.from_local(local, mesh, placements, shape=parameter.shape, stride=parameter.stride())


def _is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "to_local")
