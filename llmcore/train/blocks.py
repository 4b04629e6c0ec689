"""Two ways to compute the blocks in training: compiled, and a second time in the backward pass.

Checkpointing: Chen et al. 2016, arXiv:1604.06174.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from llmcore.train.compute import Compute
from llmcore.train.optimizer import Trainable
from llmcore.train.sharding import sharded


@contextmanager
def trained_model(model: Trainable, compute: Compute) -> Iterator[Any]:
    """Yield the model to train in the body, as `compute` says; afterwards the first process has its weights in `model`.

    With shards it is another one. The blocks are compiled, or computed again in the backward pass, in the body alone.
    """
    with sharded(model, compute) if compute.is_sharded else nullcontext(model) as trained:
        if not (compute.compile or compute.activation_checkpointing):
            yield trained
            return
        for block in trained.body.blocks:
            block.forward = _prepared(block.forward, compute)
        try:
            yield trained
        finally:
            for block in trained.body.blocks:
                del block.forward  # the class has it


def _prepared(forward: Callable[..., Tensor], compute: Compute) -> Callable[..., Tensor]:
    """Return the forward pass of a block in a step; where nothing is learned, it stays as it is."""
    run = forward
    if compute.compile:
        # dropout drops the same as uncompiled; one kernel serves every length, also after a kill
        run = torch.compile(forward, options={"fallback_random": True}, dynamic=True)

    def prepared(x: Tensor, layout: Any, cache: Any = None) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(x, layout, cache)
        if compute.activation_checkpointing:
            out: Tensor = checkpoint(run, x, layout, use_reentrant=False)  # restores dropout's random numbers
            return out
        return run(x, layout)

    return prepared
