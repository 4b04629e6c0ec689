"""AdamW with two groups, matrices decay, vectors do not; or Muon for the matrices of the blocks.

Paper: Loshchilov & Hutter 2017, arXiv:1711.05101.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn

from llmcore.train.muon import Muon
from llmcore.train.state import trained_parameters

if TYPE_CHECKING:
    from llmcore.params import Training

BLOCKS = "transformer.h."


def make_optimizer(model: nn.Module, training: "Training") -> torch.optim.AdamW:
    """Return the optimizer of the parameters to be trained; biases and layer norms are not decayed.

    `training.optimizer` is `adamw`, or `muon`: Muon for the matrices of the blocks, AdamW for all else.
    """
    muon, decay, betas = training.optimizer == "muon", training.weight_decay, (training.beta1, training.beta2)
    trained = trained_parameters(model)
    matrices = {name: parameter for name, parameter in trained.items() if parameter.ndim >= 2}
    hidden = {name: p for name, p in matrices.items() if muon and name.startswith(BLOCKS)}
    groups = [
        {"params": [p for name, p in matrices.items() if name not in hidden], "weight_decay": decay},
        {"params": [p for p in trained.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    if not muon:
        return torch.optim.AdamW(groups, lr=training.lr, betas=betas, fused=True)  # one pass over memory
    groups.append({"params": list(hidden.values()), "weight_decay": decay, "muon": True})
    return Muon(groups, lr=training.lr, betas=betas, fused=True)
