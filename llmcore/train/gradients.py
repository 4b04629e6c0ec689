"""The gradient of a step: the micro-batches' gradients, added in a fixed binary tree, ((0 + 1) + (2 + 3)) + ...

Floating-point addition is not associative, so a fixed order is what makes the bytes independent of the number of
processes, each of which computes neighbouring micro-batches.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from llmcore.base import parallel
from llmcore.train.buckets import GradientBuckets

Gradients = list[Tensor]


def step_gradients(
    parameters: Sequence[Tensor], loss_of: Callable[[int], Tensor | None], n_micro_batches: int
) -> tuple[Tensor, Gradients]:
    """Return the loss of each micro-batch of a step, (n_micro_batches,), and the gradients of their sum.

    `loss_of` computes the loss of a micro-batch from its number; None where it has nothing to learn from.
    `n_micro_batches` is a power of two, and at least the number of processes.
    """
    first = parameters[0]
    losses = torch.zeros(n_micro_batches, dtype=first.dtype, device=first.device)  # zero: another process's
    sums = TreeSums()
    *before, last = parallel.share(range(n_micro_batches))
    for number in before:
        sums.add(micro_batch_gradients(parameters, loss_of(number), losses[number]))
    loss = loss_of(last)
    if parallel.is_over_network(first.device.type):
        gradients = _exchanged_gradients(parameters, loss, losses[last], sums)
        parallel.add_over_processes([losses])
    else:
        gradients = sums.add(micro_batch_gradients(parameters, loss, losses[last]))
        parallel.add_over_processes([losses, *gradients])
    return losses, gradients


class TreeSums:
    """The sums of 2 ** level micro-batches, as the digits of a binary counter."""

    def __init__(self) -> None:
        self._levels: list[tuple[int, Gradients]] = []

    def add(self, gradients: Gradients) -> Gradients:
        """Add those of the next micro-batch; return the newest sum: of all, after a power of two of micro-batches."""
        level = 0
        while self._levels and self._levels[-1][0] == level:
            _, before = self._levels.pop()
            torch._foreach_add_(before, gradients)
            level, gradients = level + 1, before
        self._levels.append((level, gradients))
        return gradients

    def add_last(self, number: int, gradient: Tensor) -> Tensor:
        """Return the sum over all micro-batches of one parameter; `gradient` is that of the last one."""
        for _, before in reversed(self._levels):
            gradient = before[number].add_(gradient)
        return gradient


def micro_batch_gradients(parameters: Sequence[Tensor], loss: Tensor | None, kept_loss: Tensor) -> Gradients:
    """Return the gradients of a loss, zeros where it is None; it is copied to `kept_loss`."""
    if loss is None:
        return [torch.zeros_like(parameter) for parameter in parameters]
    kept_loss.copy_(loss.detach())
    return list(torch.autograd.grad(loss, parameters, materialize_grads=True))


def _exchanged_gradients(
    parameters: Sequence[Tensor], loss: Tensor | None, kept_loss: Tensor, sums: TreeSums
) -> Gradients:
    """Do the backward pass of the last micro-batch, and meanwhile add the gradients over the processes."""
    buckets = GradientBuckets(parameters)
    is_there = [False] * len(parameters)

    def put(number: int, gradient: Tensor) -> Tensor:
        is_there[number] = True
        return buckets.put(number, sums.add_last(number, gradient))

    hooks = [
        parameter.register_hook(partial(put, number))  # type: ignore[no-untyped-call]
        for number, parameter in enumerate(parameters)
    ]
    try:
        found = micro_batch_gradients(parameters, loss, kept_loss)
    finally:
        for hook in hooks:
            hook.remove()
    for number, gradient in enumerate(found):
        if not is_there[number]:  # the loss does not depend on this parameter
            put(number, gradient)
    return buckets.sums()
