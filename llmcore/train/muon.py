"""Muon: orthogonalised momentum for matrix parameters, so that no direction of a matrix learns faster than another.

Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; scaled as by Liu et al. 2025, arXiv:2502.16982,
so that AdamW's learning rate and weight decay fit. `torch.optim.Muon` computes the same in bf16, which is slow on a
CPU without it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from llmcore.base import parallel
from llmcore.base.containers import chunks
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
            if group["muon"] and group["params"]:  # a head that is trained alone has no matrix in the blocks
                self._muon_update(group["params"], group["lr"], group["weight_decay"])
        self.param_groups = [group for group in groups if not group["muon"]]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups

    def _muon_update(self, parameters: list[Tensor], lr: float, weight_decay: float) -> None:
        """Update matrices; each process orthogonalises its share of them."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:  # AdamW wants a step in each state that it loads
                self.state[parameter] |= {"momentum": torch.zeros_like(parameter), "step": torch.tensor(0.0)}
            self.state[parameter]["step"] += 1
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov's
        broken = getattr(self, "found_inf", None)  # 1 on the device: no weight may change
        torch._foreach_mul_(parameters, 1 - lr * weight_decay * (1 if broken is None else 1 - broken))
        for parameter, update in zip(parameters, _orthogonalised(ahead), strict=True):
            update = update if broken is None else torch.where(broken > 0, 0, update)
            parameter.sub_(update, alpha=lr * UPDATE_RMS * max(parameter.shape) ** 0.5)


def _orthogonalised(matrices: Sequence[Any]) -> Iterator[Tensor]:
    """Yield `newton_schulz` of each matrix; a process computes whole ones.

    Sharded matrices are gathered as many at a time as there are processes, and yielded as shards.
    """
    if not hasattr(matrices[0], "full_tensor"):
        yield from parallel.map_tensors(newton_schulz, matrices)
        return
    from torch.distributed.tensor import distribute_tensor

    for few in chunks(matrices, parallel.n_processes()):
        wholes = [matrix.full_tensor() for matrix in few]
        for matrix, whole in zip(few, parallel.map_tensors(newton_schulz, wholes), strict=True):
            yield distribute_tensor(whole, matrix.device_mesh, matrix.placements, src_data_rank=None)


def newton_schulz(matrix: Tensor) -> Tensor:
    """Return U V^T, roughly, of a matrix U S V^T. It needs matmuls alone."""
    is_wide = matrix.shape[0] <= matrix.shape[1]
    wide = matrix if is_wide else matrix.mT
    x: Tensor = wide / (torch.linalg.matrix_norm(wide) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = matmul(x, x.mT)
        x = torch.add(matmul(torch.add(matmul(gram, gram).mul_(c), gram, alpha=b), x), x, alpha=a)
    return x if is_wide else x.mT
