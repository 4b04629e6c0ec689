"""Output projection and cross-entropy in chunks of positions, so that the full logits never exist.

With GPT-2's vocabulary the logits of 1,024 positions take 206 MB, and their gradient as much again. Here the logits
of a chunk become its gradient in place and are freed before the next chunk.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmcore.base.matmul import matmul

IGNORE_INDEX = -100  # a target that gives no loss: torch's default
MAX_LOGITS = 2**24  # of a chunk: 64 MB


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy in nats, summed over the positions: hidden (N, C), weight (V, C), targets (N,).

    Equals `F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="sum")`, gradients too; under
    autocast the matmuls are computed in its precision, the loss in fp32.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        if torch.is_grad_enabled():
            loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, targets, dtype)  # type: ignore[no-untyped-call]
            return loss
        return _summed_over_chunks(hidden, weight, targets, dtype)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The gradients are computed in the forward pass, where the logits are."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        hidden_grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        weight_grad = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        loss = _summed_over_chunks(hidden, weight, targets, dtype, hidden_grad, weight_grad)
        ctx.save_for_backward(hidden_grad, weight_grad)
        return loss

    @staticmethod
    def backward(ctx: Any, *output_grads: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = output_grads
        # in place: with GPT-2's vocabulary a copy is 154 MB; torch refuses a second backward over changed tensors
        gradients = [None if gradient is None else gradient.mul_(factor) for gradient in ctx.saved_tensors]
        return (*gradients, None, None)


def _summed_over_chunks(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    dtype: torch.dtype,
    hidden_grad: Tensor | None = None,
    weight_grad: Tensor | None = None,
) -> Tensor:
    """Return the summed loss; where they are given, fill `hidden_grad` and add to `weight_grad`."""
    rows = max(1, MAX_LOGITS // len(weight))
    loss, head = hidden.new_zeros((), dtype=torch.promote_types(dtype, torch.float32)), weight.to(dtype)
    for start in range(0, len(hidden), rows):
        chunk = slice(start, start + rows)
        inputs = hidden[chunk].to(dtype)  # (n, C)
        logits = matmul(inputs, head.mT).to(loss.dtype)  # (n, V)
        loss += F.cross_entropy(logits, targets[chunk], reduction="sum")
        if hidden_grad is None and weight_grad is None:
            continue
        logits_grad = torch.softmax(logits, -1, out=logits)  # in place; exp and logsumexp would ask for the vendor
        chunk_targets = targets[chunk, None]  # (n, 1)
        logits_grad.scatter_add_(1, chunk_targets, logits_grad.new_full(chunk_targets.shape, -1.0))
        logits_grad = logits_grad.to(dtype)
        if hidden_grad is not None:
            hidden_grad[chunk] = matmul(logits_grad, head)
        if weight_grad is not None:
            weight_grad += matmul(logits_grad.mT, inputs)
    return loss
