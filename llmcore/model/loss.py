"""Output projection and cross-entropy in chunks of positions, so that the full logits never exist.

With GPT-2's vocabulary the logits of 1,024 positions take 206 MB, and their gradient as much again. Here the logits
of a chunk become its gradient in place and are freed before the next chunk.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmcore.base.matmul import matmul
from llmcore.model.layers import matmul_dtype

IGNORE_INDEX = -100  # a target that gives no loss: torch's default
MAX_LOGITS_BYTES = 2**27  # of a chunk; in bf16 on a GPU an fp32 copy and its logarithms take four times that beside
MAX_CACHED_LOGITS = 2**20  # of a part of it, on a CPU: 4 MB
GPU_MULTIPLE = 64  # with rows of another length cuBLAS takes kernels that took four times as long on an H100


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy in nats, summed over the positions: hidden (N, C), weight (V, C), targets (N,).

    Equals `F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="sum")`, gradients too; under
    autocast the matmuls are computed in its precision, the loss in fp32.
    """
    device = hidden.device.type
    dtype = matmul_dtype(weight)
    with torch.autocast(device, enabled=False):
        if torch.is_grad_enabled():
            loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, targets, dtype)  # type: ignore[no-untyped-call]
            return loss
        return _summed_over_chunks(hidden, weight, targets, dtype, (False, False))[0]


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The gradients are computed in the forward pass, where the logits are."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        loss, *gradients = _summed_over_chunks(hidden, weight, targets, dtype, ctx.needs_input_grad[:2])
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, *output_grads: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = output_grads
        # in place: with GPT-2's vocabulary a copy is 154 MB; torch refuses a second backward over changed tensors
        gradients = [None if gradient is None else gradient.mul_(factor) for gradient in ctx.saved_tensors]
        return (*gradients, None, None)


def _summed_over_chunks(
    hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, needs_gradient: Sequence[bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the summed loss, and its gradients of `hidden` and of `weight`, each where it is needed."""
    rows = max(1, MAX_LOGITS_BYTES // dtype.itemsize // len(weight))
    loss, head = hidden.new_zeros((), dtype=torch.promote_types(dtype, torch.float32)), _head(weight, dtype)
    loss_of = _loss_by_few_rows if _is_on_cpu(hidden) else _loss_at_once
    hidden_grad = torch.empty_like(hidden) if needs_gradient[0] else None
    weight_grad = None
    for start in range(0, len(hidden), rows):
        chunk = slice(start, start + rows)
        inputs = hidden[chunk].to(dtype)  # (n, C)
        logits = matmul(inputs, head.mT)  # (n, V)
        logits[:, len(weight) :] = -torch.inf
        loss += loss_of(logits, targets[chunk], loss.dtype, replace=any(needs_gradient))
        if hidden_grad is not None:
            hidden_grad[chunk] = matmul(logits, head)  # the logits are their gradient now
        if needs_gradient[1]:
            found = matmul(logits.mT, inputs)[: len(weight)].to(weight.dtype)
            weight_grad = found if weight_grad is None else weight_grad.add_(found)
    if needs_gradient[1] and weight_grad is None:  # there is no position
        weight_grad = torch.zeros_like(weight)
    return loss, hidden_grad, weight_grad


def _head(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weight (V, C) in `dtype`, on a GPU with rows of zeros up to a multiple of `GPU_MULTIPLE`."""
    missing = 0 if _is_on_cpu(weight) else -len(weight) % GPU_MULTIPLE
    if not missing:
        return weight.to(dtype)
    head = weight.new_zeros(len(weight) + missing, weight.shape[1], dtype=dtype)
    head[: len(weight)] = weight
    return head


def _is_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _loss_by_few_rows(logits: Tensor, targets: Tensor, dtype: torch.dtype, *, replace: bool) -> Tensor:
    """Return the loss in `dtype`, summed; with `replace`, put its gradient in place of the logits (n, V).

    A few rows at a time, which stay in the processor's cache through all passes.
    """
    loss, rows = logits.new_zeros((), dtype=dtype), max(1, MAX_CACHED_LOGITS // logits.shape[1])
    for start in range(0, len(logits), rows):
        few = slice(start, start + rows)
        exact = logits[few].to(dtype)  # a copy, unless it has this type
        loss += F.cross_entropy(exact, targets[few], reduction="sum")
        if replace:
            torch.softmax(exact, -1, out=exact)  # exp and logsumexp would ask for the CPU's vendor
            places = targets[few, None]  # (n', 1)
            exact.scatter_add_(1, places, exact.new_full(places.shape, -1.0))
            if exact.dtype != logits.dtype:
                logits[few] = exact
    return loss


def _loss_at_once(logits: Tensor, targets: Tensor, dtype: torch.dtype, *, replace: bool) -> Tensor:
    """Do what `_loss_by_few_rows` does with few launches, and few passes over a GPU's memory."""
    logs = torch.log_softmax(logits, -1, dtype=dtype)  # (n, V)
    of_targets = logs.gather(1, targets[:, None])  # (n, 1)
    if replace:
        torch.exp(logs, out=logits)
        logits.scatter_(1, targets[:, None], of_targets.expm1().to(logits.dtype))
    return -of_targets.sum()
