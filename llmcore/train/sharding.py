"""Sharded training by torch's FSDP2: each process keeps a part of every parameter, gradient and optimizer state.

A block's parameters are gathered when it computes and freed after it, so a process holds its share of the model, a
whole block and the next one. Rajbhandari et al. 2019 (ZeRO, stage 3), arXiv:1910.02054.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llmcore.base import parallel
from llmcore.train.compute import Compute


@contextmanager
def sharded(model: Any, compute: Compute) -> Iterator[Any]:
    """Yield a twin of `model` that is cut over the processes; afterwards the first one's `model` has its weights.

    Block by block, so that a process never holds more than the model and one block; in the body, `model` is empty.
    Every process calls the twin equally often. LostProcessError if another process ends in the body.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy

    wholes = list(model.parameters())  # tied ones once
    twin = copy.deepcopy(model, {id(parameter): parameter for parameter in wholes})  # modules alone are copied
    in_fp32 = MixedPrecisionPolicy()
    # the residual stream stays in fp32, as under autocast; so does what is around the blocks
    in_bf16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in twin.body.blocks:
        _shard(block, compute, in_bf16 if compute.is_bf16 else in_fp32)
    _shard(twin, compute, in_fp32)
    with _lost_processes():
        yield twin
        for parameter, whole in zip(twin.parameters(), wholes, strict=True):
            gathered = parameter.detach().full_tensor()
            if parallel.is_first():
                whole.data = gathered.cpu()


def _shard(module: nn.Module, compute: Compute, precision: Any) -> None:
    """Cut the parameters of a module that are not cut yet; gradients are added over the processes, not averaged."""
    from torch.distributed.fsdp import fully_shard

    whole = list(module.parameters())
    mesh = parallel.device_mesh(compute.device.type)
    # by default the outermost module stays whole after an evaluation, and is read so by checkpoints
    fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=precision)
    assert isinstance(module, torch.distributed.fsdp.FSDPModule)
    module.set_gradient_divide_factor(1.0)
    module.set_force_sum_reduction_for_comms(True)  # gloo multiplies by no factor
    for parameter in whole:
        if not hasattr(parameter, "full_tensor"):
            parameter.data = parameter.data.new_empty(0)


def sharded_backward(loss_of: Callable[[int], Tensor | None], n_micro_batches: int, device: torch.device) -> Tensor:
    """Leave the gradient of a step in the parameters, each process its part; return the loss of each micro-batch.

    A gradient is added over the processes after each micro-batch: the sum of a whole one would need the memory that
    sharding saves.
    """
    losses = torch.zeros(n_micro_batches, device=device)
    for number in parallel.share(range(n_micro_batches)):
        loss = loss_of(number)
        assert loss is not None
        losses[number] = loss.detach()
        loss.backward()  # type: ignore[no-untyped-call]
    parallel.add_over_processes([losses])
    return losses


@contextmanager
def _lost_processes() -> Iterator[None]:
    """LostProcessError where FSDP's exchange fails in the body; it raises what the backend does."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            raise parallel.LostProcessError from error
        raise
