"""The processes that compute a stage together; no result depends on their number.

`run.launch` starts them, on one machine or several; torch.distributed connects them, with gloo on CPUs and NCCL on
GPUs. Each has a neighbouring share of a fixed list of parts, and results are added, or collected, in the order of the
parts. A process that is alone computes all of them.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.distributed.device_mesh import DeviceMesh

RUN_ID = "llmcore-"  # begins torchrun's id of our own workers; the launcher's process id ends it
STORE = "LLMCORE_STORE"  # where several machines compute: the first one's store, HOST:PORT
TIMEOUT = timedelta(days=30)  # others wait while the first one waits for a lock; dead ones are found by the launcher

Part = TypeVar("Part")
Parts = TypeVar("Parts", bound="Sequence[Any] | Tensor")
Result = TypeVar("Result")


class LostProcessError(Exception):
    """Another process has ended; the launcher says why, and ends this one."""


def launcher_pid() -> int | None:
    """Return the process that launched this worker; None in a process that was started alone."""
    run = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return int(run.removeprefix(RUN_ID)) if run.startswith(RUN_ID) else None


def rank() -> int:
    """Return the number of this process, those of the first machine first."""
    return machine() * int(os.environ["WORLD_SIZE"]) + int(os.environ["RANK"]) if launcher_pid() else 0


def n_processes() -> int:
    """Return the number of processes, a power of two."""
    return n_machines() * int(os.environ["WORLD_SIZE"]) if launcher_pid() else 1


def local_rank() -> int:
    """Return the number of this process among those that its launcher has started, on this machine."""
    return int(os.environ["LOCAL_RANK"]) if launcher_pid() else 0


def machine() -> int:
    """Return the number of this machine."""
    return int(os.environ["NODE_RANK"]) if STORE in os.environ else 0


def n_machines() -> int:
    """Return the number of machines, a power of two, each with the same number of processes."""
    return int(os.environ["NNODES"]) if STORE in os.environ else 1


def is_first() -> bool:
    """Return whether this is the process that writes, logs and saves."""
    return rank() == 0


def leave_to_first() -> None:
    """End this process here, unless it is the first."""
    if not is_first():
        sys.exit()


def share(parts: Parts) -> Parts:
    """Return the neighbouring parts that this process computes."""
    begin, end = (len(parts) * number // n_processes() for number in (rank(), rank() + 1))
    return cast(Parts, parts[begin:end])


def map_parts(function: Callable[[Part], Result], parts: Sequence[Part], *, equally: bool = False) -> list[Result]:
    """Return `function` of each part, in order; each process computes its share, and all get all results.

    With `equally`, all call `function` equally often, those with a smaller share once more for nothing: what a model
    needs whose parts they exchange in each call.
    """
    mine = [function(part) for part in share(parts)]
    if equally and len(mine) < -(-len(parts) // n_processes()):
        function(parts[-1])
    return [result for found in gather(mine) for result in found]


def gather(value: Result) -> list[Result]:
    """Return the value of each process, in their order."""
    if n_processes() == 1:
        return [value]
    import torch.distributed as dist

    values = [value] * n_processes()
    with _connected():
        dist.all_gather_object(values, value)
    return values


def map_tensors(function: "Callable[[Tensor], Tensor]", tensors: "Sequence[Tensor]") -> "list[Tensor]":
    """Do what `map_parts` does with a function that keeps the shape of a tensor, without a copy through bytes."""
    import torch

    results = [torch.zeros_like(tensor) for tensor in tensors]
    for result, tensor in zip(share(results), share(tensors), strict=True):
        result += function(tensor)  # added to zero, as over processes: -0 becomes 0
    add_over_processes(results)
    return results


def from_first(value: Any) -> Any:
    """Return the first process's value in all of them."""
    if n_processes() == 1:
        return value
    import torch.distributed as dist

    values = [value]
    with _connected():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def add_over_processes(tensors: "Sequence[Tensor]") -> None:
    """Add each tensor to those of the other processes, in place: neighbours first, then neighbouring pairs, and so on.

    With a power of two of processes, this continues the binary tree in which `train.gradients` adds. The tensors have
    one type and one device.
    """
    if n_processes() == 1:
        return
    import torch

    with _connected():
        slots = _slots(sum(tensor.numel() for tensor in tensors), tensors[0].dtype, tensors[0].device.type)
        if slots is not None:
            _add_in_shared_memory(tensors, slots)
            return
    padding = -sum(tensor.numel() for tensor in tensors) % n_processes()
    flat = torch.cat([*(tensor.flatten() for tensor in tensors), tensors[0].new_zeros(padding)])
    add_flat_over_processes(flat)
    for tensor, piece in zip(tensors, _pieces(flat, tensors), strict=True):
        tensor.copy_(piece)


def add_flat_over_processes(flat: "Tensor") -> None:
    """Do what `add_over_processes` does, through the network; the length is a multiple of the number of processes."""
    from llmcore.base.tree_sum import add_over_tree

    with _connected():
        add_over_tree(flat, rank(), n_processes())


def is_over_network(device: str) -> bool:
    """Return whether several processes add through a network, and not through memory that they share."""
    return n_processes() > 1 and (device != "cpu" or int(os.environ["LOCAL_WORLD_SIZE"]) < n_processes())


def _add_in_shared_memory(tensors: "Sequence[Tensor]", slots: "Tensor") -> None:
    """Add through memory that all processes see, a slot for each; each adds its share of the elements."""
    import torch.distributed as dist

    for tensor, piece in zip(tensors, _pieces(slots[rank()], tensors), strict=True):
        piece.copy_(tensor)
    dist.barrier()
    parts = [share(slot) for slot in slots]
    while len(parts) > 1:
        parts = [even.add_(odd) for even, odd in zip(parts[::2], parts[1::2], strict=True)]
    dist.barrier()
    for tensor, piece in zip(tensors, _pieces(slots[0], tensors), strict=True):
        tensor.copy_(piece)
    dist.barrier()  # before the slots are used again


def _pieces(flat: "Tensor", tensors: "Sequence[Tensor]") -> "list[Tensor]":
    """Return the places of the tensors in a flat one that holds them and perhaps more, in their shapes."""
    import torch

    sizes = [tensor.numel() for tensor in tensors]
    pieces = torch.split(flat[: sum(sizes)], sizes)
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, tensors, strict=True)]


@cache
def _slots(numel: int, dtype: "torch.dtype", device: str) -> "Tensor | None":
    """Return memory that the processes share, (processes, numel); None on a GPU, over several machines, or where there
    is no room for it."""
    import torch.distributed as dist

    from llmcore.base import shared_memory

    if is_over_network(device):
        return None
    path = from_first(shared_memory.create(n_processes() * numel * dtype.itemsize) if is_first() else None)
    if path is None:
        return None
    opened = shared_memory.open_tensor(path, (n_processes(), numel), dtype)
    dist.barrier()
    if is_first():
        os.unlink(path)
    return opened


@cache
def device_mesh(device_type: str) -> "DeviceMesh":
    """Return the devices of the processes in one row, as torch's own sharding wants them."""
    from torch.distributed.device_mesh import init_device_mesh

    with _connected():
        return init_device_mesh(device_type, (n_processes(),))


@contextmanager
def _connected() -> Iterator[None]:
    """Exchange in the body; LostProcessError if another process has ended."""
    try:
        _connect()
        yield
    except RuntimeError as error:
        raise LostProcessError from error


@cache
def _connect() -> None:
    import torch
    import torch.distributed as dist

    store = None  # the launcher's
    if STORE in os.environ:
        host, _, port = os.environ[STORE].rpartition(":")
        store = dist.TCPStore(host, int(port), is_master=False, wait_for_workers=False, timeout=TIMEOUT)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank(), world_size=n_processes(), timeout=TIMEOUT)
