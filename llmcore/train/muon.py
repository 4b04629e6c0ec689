"""Muon: orthogonalised momentum for matrix parameters, so that no direction of a matrix learns faster than another.

Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; scaled as by Liu et al. 2025, arXiv:2502.16982,
so that AdamW's learning rate and weight decay fit. `torch.optim.Muon` computes the same in bf16, which is slow on a
CPU without it, and one matrix at a time.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from llmcore.base.matmul import matmul

MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steepest at zero; singular values end between 0.7 and 1.2
UPDATE_RMS = 0.2  # of an update's entries, about what AdamW's have


class MuonWithAdamW(torch.optim.AdamW):
    """Muon for the parameter groups with `muon` true, AdamW for the others."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        groups = self.param_groups
        for group in groups:
            if group["muon"]:
                for same_shape in _by_shape(p for p in group["params"] if p.grad is not None):
                    self._muon_update(same_shape, group["lr"], group["weight_decay"])
        self.param_groups = [group for group in groups if not group["muon"]]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups

    def _muon_update(self, parameters: list[Tensor], lr: float, weight_decay: float) -> None:
        """Update matrices of one shape together."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:  # AdamW wants a step in each state that it loads
                self.state[parameter] |= {"momentum": torch.zeros_like(parameter), "step": torch.tensor(0.0)}
            self.state[parameter]["step"] += 1
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch.stack(gradients).lerp(torch.stack(momenta), MOMENTUM)  # Nesterov's: (N, rows, columns)
        updates = newton_schulz(ahead) * (UPDATE_RMS * max(ahead.shape[1:]) ** 0.5)
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - lr * weight_decay).sub_(update, alpha=lr)


def newton_schulz(matrices: Tensor) -> Tensor:
    """Return U V^T, roughly, of each matrix U S V^T: (N, rows, columns). It needs matmuls alone."""
    is_wide = matrices.shape[1] <= matrices.shape[2]
    wide = matrices if is_wide else matrices.mT
    x: Tensor = wide / (torch.linalg.matrix_norm(wide, keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = matmul(x, x.mT)
        x = torch.add(matmul(torch.add(matmul(gram, gram).mul_(c), gram, alpha=b), x), x, alpha=a)
    return x if is_wide else x.mT


def _by_shape(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    ordered = sorted(parameters, key=lambda parameter: parameter.shape)
    return [list(same) for _, same in groupby(ordered, key=lambda parameter: parameter.shape)]
