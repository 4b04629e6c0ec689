"""Gradients are exchanged between processes in buckets, while the backward pass still computes the others.

The backward pass reaches the last parameters first, so buckets hold the parameters in reverse order, as those of
torch's DistributedDataParallel do (Li et al. 2020, arXiv:2006.15704).
"""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from queue import SimpleQueue
from threading import Thread

import torch
from torch import Tensor

from llmcore.base import parallel

BUCKET_BYTES = 25 << 20  # large enough for the network's full rate, small enough that the first ones leave early
ALIGNMENT_BYTES = 64  # of each gradient in its bucket, as torch's own tensors are


class GradientBuckets:
    """The sum of gradients over processes; each is added as soon as it is there.

    All processes send the buckets in the same order. The sums have the bytes of `parallel.add_over_processes`.
    """

    def __init__(self, parameters: Sequence[Tensor]):
        self._pieces: dict[int, Tensor] = {}  # by number of the parameter: its place in a bucket
        self._buckets: list[Tensor] = []
        self._missing: list[set[int]] = []  # by bucket: the parameters whose gradients are not there yet
        self._bucket_of: dict[int, int] = {}
        for numbers in bucket_numbers([parameter.numel() * parameter.itemsize for parameter in parameters]):
            self._add_bucket(numbers, parameters)
        self._sent: list[Future[None]] = []

    def _add_bucket(self, numbers: list[int], parameters: Sequence[Tensor]) -> None:
        first = parameters[numbers[0]]
        unit = ALIGNMENT_BYTES // first.itemsize
        lengths = [-(-parameters[number].numel() // unit) * unit for number in numbers]
        padding = -sum(lengths) % parallel.n_processes()  # it is cut into halves, quarters, ...
        bucket = torch.empty(sum(lengths) + padding, dtype=first.dtype, device=first.device)
        for number, part in zip(numbers, torch.split(bucket, [*lengths, padding]), strict=False):
            parameter = parameters[number]
            self._pieces[number] = part[: parameter.numel()].view(parameter.shape)
            self._bucket_of[number] = len(self._buckets)
        self._buckets.append(bucket)
        self._missing.append(set(numbers))

    def put(self, number: int, gradient: Tensor) -> Tensor:
        """Take the gradient of a parameter, and send its bucket once that is full; return where the sum will be."""
        piece = self._pieces[number]
        piece.copy_(gradient)
        self._missing[self._bucket_of[number]].discard(number)
        while len(self._sent) < len(self._buckets) and not self._missing[len(self._sent)]:
            self._send(self._buckets[len(self._sent)])
        return piece

    def _send(self, bucket: Tensor) -> None:
        job = Job(bucket, torch.cuda.current_stream().record_event() if bucket.is_cuda else None, Future())
        _jobs().put(job)
        self._sent.append(job.done)

    def sums(self) -> list[Tensor]:
        """Wait for the other processes; return the sums, in the order of the parameters."""
        for sent in self._sent:
            sent.result()
        if self._buckets[0].is_cuda:
            torch.cuda.current_stream().wait_stream(_stream(self._buckets[0].device))
        return [self._pieces[number] for number in range(len(self._pieces))]


def bucket_numbers(sizes_bytes: Sequence[int]) -> list[list[int]]:
    """Divide parameters of these sizes into buckets of about BUCKET_BYTES, the last parameters first."""
    buckets: list[list[int]] = []
    room_bytes = 0
    for number in reversed(range(len(sizes_bytes))):
        if sizes_bytes[number] > room_bytes:
            buckets.append([])
            room_bytes = BUCKET_BYTES
        buckets[-1].append(number)
        room_bytes -= sizes_bytes[number]
    return buckets


@dataclass(frozen=True)
class Job:
    """A bucket to be added over the processes, on a GPU after the event that ends its computing."""

    bucket: Tensor
    computed: torch.cuda.Event | None
    done: Future[None]

    def run(self) -> None:
        if self.computed is None:
            parallel.add_flat_over_processes(self.bucket)
            return
        with torch.cuda.device(self.bucket.device), torch.cuda.stream(_stream(self.bucket.device)):
            self.computed.wait()
            parallel.add_flat_over_processes(self.bucket)


@cache
def _jobs() -> SimpleQueue[Job]:
    """Return the queue of the one thread that sends: all processes send in one order.

    The thread is a daemon: a process that fails must not wait for the others.
    """
    jobs: SimpleQueue[Job] = SimpleQueue()
    Thread(target=_send_all, args=(jobs,), name="gradients", daemon=True).start()
    return jobs


def _send_all(jobs: SimpleQueue[Job]) -> None:
    while True:
        job = jobs.get()
        try:
            job.run()
            job.done.set_result(None)
        except BaseException as error:  # raised where the sums are wanted
            job.done.set_exception(error)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
