"""Output head and cross-entropy in one, a part of the positions at a time.

With GPT-2's vocabulary the logits of 1,024 positions take 206 MB, their gradient as much again. Here a part's
logits become its gradient at once and are gone before the next part; what stays has the shapes of the inputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOGITS = 2**24  # at most at once: 64 MB


def head_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy in nats, summed over the positions: hidden (N, C), weight (V, C), targets (N,).

    Equals `F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="sum")`, gradients too; under
    autocast the products are computed in its precision, the loss in fp32.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        if torch.is_grad_enabled():
            loss: Tensor = _HeadLoss.apply(hidden, weight, targets, dtype)
            return loss
        return _sum_of_parts(hidden, weight, targets, dtype)


class _HeadLoss(torch.autograd.Function):
    """The gradients are computed in the forward pass, where the logits are."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        to_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        loss = _sum_of_parts(hidden, weight, targets, dtype, to_hidden, to_weight)
        ctx.save_for_backward(to_hidden, to_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = above
        # in place: with GPT-2's vocabulary a copy is 154 MB; torch refuses a second backward over changed tensors
        gradients = [None if gradient is None else gradient.mul_(factor) for gradient in ctx.saved_tensors]
        return (*gradients, None, None)


def _sum_of_parts(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    dtype: torch.dtype,
    to_hidden: Tensor | None = None,
    to_weight: Tensor | None = None,
) -> Tensor:
    """Return the summed loss; fill `to_hidden` and add to `to_weight` its gradients, where they are given."""
    rows = max(1, LOGITS // len(weight))
    loss, head = hidden.new_zeros((), dtype=torch.promote_types(dtype, torch.float32)), weight.to(dtype)
    for begin in range(0, len(hidden), rows):
        part = slice(begin, begin + rows)
        inputs = hidden[part].to(dtype)  # (n, C)
        logits = (inputs @ head.T).to(loss.dtype)  # (n, V)
        wanted = targets[part, None]  # (n, 1)
        if to_hidden is None and to_weight is None:
            loss += F.cross_entropy(logits, targets[part], reduction="sum")
            continue
        log_total = logits.logsumexp(-1, keepdim=True)  # (n, 1)
        loss += (log_total - logits.gather(1, wanted)).sum()
        slope = logits.sub_(log_total).exp_()  # (n, V), the probabilities, in place of the logits
        slope.scatter_add_(1, wanted, slope.new_full(wanted.shape, -1.0))
        slope = slope.to(dtype)
        if to_hidden is not None:
            to_hidden[part] = slope @ head
        if to_weight is not None:
            _add_product(to_weight, slope.T, inputs)
    return loss


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a @ b to `total`; of the same type without a product of its own, which costs a fifth of the time."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b
