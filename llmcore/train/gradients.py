"""The gradient of a step: the micro-batches' gradients, added in a fixed binary tree, ((0 + 1) + (2 + 3)) + ...

Floating-point addition is not associative, so a fixed order is what makes the bytes independent of the number of
processes, each of which computes neighbouring micro-batches.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from llmcore.base import parallel

Batch = TypeVar("Batch")

Gradients = list[Tensor]


def step_gradients(
    parameters: Sequence[Tensor], loss_of: Callable[[int], Tensor | None], n_micro_batches: int
) -> tuple[list[float], Gradients]:
    """Return the loss of each micro-batch of a step, and the gradients of their sum.

    `loss_of` computes the loss of a micro-batch from its number; None where it has nothing to learn from.
    `n_micro_batches` is a power of two, and at least the number of processes.
    """
    losses = [0.0] * n_micro_batches
    tree: list[tuple[int, Gradients]] = []  # sums of 2 ** level micro-batches, as the digits of a binary counter
    for number in parallel.share(range(n_micro_batches)):
        loss = loss_of(number)
        if loss is None:
            level, found = 0, [torch.zeros_like(parameter) for parameter in parameters]
        else:
            losses[number] = loss.item()
            level, found = 0, list(torch.autograd.grad(loss, parameters, materialize_grads=True))
        while tree and tree[-1][0] == level:
            _, before = tree.pop()
            torch._foreach_add_(before, found)
            level, found = level + 1, before
        tree.append((level, found))
    [(_, gradients)] = tree
    others = torch.tensor(losses, dtype=gradients[0].dtype, device=gradients[0].device)  # theirs in place of zeros
    parallel.add_over_processes([others, *gradients])
    return others.tolist(), gradients
