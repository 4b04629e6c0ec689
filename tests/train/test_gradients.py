"""The gradients of a step have the same bytes for any number of processes, and on any way between them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from llmcore.train import buckets
from llmcore.train.gradients import TreeSums, step_gradients

N_MICRO_BATCHES = 8
EMPTY = 5  # the number of the micro-batch that has nothing to learn from
SMALL_BUCKET_BYTES = 3000


def parameters_and_losses() -> tuple[list[Tensor], list[Tensor | None]]:
    """Return the parameters of a model, one of them unused, and the losses; their sizes differ by far."""
    generator = torch.Generator().manual_seed(1)
    layers = [nn.Linear(23, 23) for _ in range(5)]
    parameters: list[Tensor] = [nn.Parameter(torch.zeros(7)), *(p for layer in layers for p in layer.parameters())]
    for parameter in parameters:
        parameter.data = torch.randn(parameter.shape, generator=generator)
    losses: list[Tensor | None] = []
    for number in range(N_MICRO_BATCHES):
        hidden = torch.randn(11, 23, generator=generator) * 10.0 ** (number - 4)
        for layer in layers:
            hidden = torch.tanh(layer(hidden)) + hidden
        losses.append(None if number == EMPTY else hidden.square().mean())
    return parameters, losses


def result() -> list[bytes]:
    parameters, losses = parameters_and_losses()
    found, gradients = step_gradients(parameters, losses.__getitem__, N_MICRO_BATCHES)
    return [tensor.numpy().tobytes() for tensor in (found, *gradients)]


def processes(count: int, folder: Path, *, local: int) -> Iterator[list[bytes]]:
    """Yield what each process found; `local` of them are on one machine, so that they share memory if all are."""
    environment = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(local),
        "TORCHELASTIC_RUN_ID": f"llmcore-{os.getpid()}",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    environment |= {"MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder / f"{rank}.pt")], env=os.environ | environment | {"RANK": str(rank)}
        )
        for rank in range(count)
    ]
    assert [process.wait(60) for process in started] == [0] * count
    for rank in range(count):
        yield torch.load(folder / f"{rank}.pt", weights_only=True)


@pytest.mark.parametrize(("count", "local"), [(2, 1), (4, 2), (4, 4)])
def test_several_processes_find_the_bytes_of_one(count, local, tmp_path):
    alone = result()
    for found in processes(count, tmp_path, local=local):
        assert found == alone


def test_the_sum_is_the_binary_tree():
    """Reference: NumPy, the tree written out."""
    parameters, losses = parameters_and_losses()
    each = [
        np.zeros(parameters[3].shape, np.float32)
        if loss is None
        else torch.autograd.grad(loss, parameters[3])[0].numpy()
        for loss in losses
    ]
    while len(each) > 1:
        each = [even + odd for even, odd in zip(each[::2], each[1::2], strict=True)]
    parameters, losses = parameters_and_losses()
    _, gradients = step_gradients(parameters, losses.__getitem__, N_MICRO_BATCHES)
    assert gradients[3].numpy().tobytes() == each[0].tobytes()


@pytest.mark.parametrize("n_micro_batches", [1, 2, 8])
def test_the_last_gradient_added_alone_is_the_whole_sum(n_micro_batches):
    parts = torch.randn(n_micro_batches, 100, generator=torch.Generator().manual_seed(2))
    whole, open_at_the_end = TreeSums(), TreeSums()
    for part in parts[:-1]:
        whole.add([part.clone()])
        open_at_the_end.add([part.clone()])
    [expected] = whole.add([parts[-1].clone()])
    assert torch.equal(open_at_the_end.add_last(0, parts[-1].clone()), expected)


def test_buckets_hold_every_parameter_once_the_last_ones_first():
    sizes = [40 << 20, 10 << 20, 10 << 20, 10 << 20, 1, 1]
    found = buckets.bucket_numbers(sizes)
    assert [number for bucket in found for number in bucket] == [5, 4, 3, 2, 1, 0]
    assert all(len(bucket) == 1 or sum(sizes[number] for number in bucket) <= buckets.BUCKET_BYTES for bucket in found)


if __name__ == "__main__":
    buckets.BUCKET_BYTES = SMALL_BUCKET_BYTES  # several buckets of a small model
    torch.save(result(), sys.argv[1])
