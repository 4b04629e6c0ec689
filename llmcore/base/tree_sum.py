"""The sum of a tensor over processes in a fixed binary tree, with the least data on the network.

Recursive halving and doubling (Thakur et al. 2005, doi:10.1177/1094342005051521): neighbours exchange halves and add
them, then neighbouring pairs exchange halves of those, and so on; at the end each process has one part of the whole
sum, and the parts go back the same way. Each process sends 2 (P - 1) / P of the tensor, as torch's own all-reduce does,
but adds as `train.gradients` does on one process: ((0 + 1) + (2 + 3)) + ... Its own adds in an order that depends
on the number of processes.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def add_over_tree(flat: "Tensor", rank: int, n_processes: int) -> None:
    """Add `flat`, (numel,), to that of the other processes, in place; numel is a multiple of `n_processes`.

    `n_processes` is a power of two. RuntimeError if another process has ended.
    """
    import torch

    distances = [1 << level for level in range(n_processes.bit_length() - 1)]
    halves = []  # of each level: the half that this process adds up, and the one that its peer does
    part = flat
    for distance in distances:
        first, second = part.chunk(2)
        mine, theirs = (second, first) if rank & distance else (first, second)
        received = torch.empty_like(mine)
        _swap(theirs, received, rank ^ distance)
        part = mine.add_(received)
        halves.append((mine, theirs))
    for distance, (mine, theirs) in zip(reversed(distances), reversed(halves), strict=True):
        _swap(mine, theirs, rank ^ distance)


def _swap(sent: "Tensor", received: "Tensor", peer: int) -> None:
    """Send a tensor to a process, which sends one at the same time."""
    import torch.distributed as dist

    transfers = [dist.P2POp(dist.isend, sent, peer), dist.P2POp(dist.irecv, received, peer)]
    for transfer in dist.batch_isend_irecv(transfers):
        transfer.wait()
