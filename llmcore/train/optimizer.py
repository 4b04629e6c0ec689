"""AdamW with two groups: matrices decay, vectors do not. Paper: Loshchilov & Hutter 2017, arXiv:1711.05101."""

import torch
from torch import nn


def make_optimizer(
    model: nn.Module, *, lr: float, weight_decay: float, beta1: float, beta2: float
) -> torch.optim.AdamW:
    """Return AdamW over the parameters to be trained; biases and layer norms are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2), fused=True)  # one pass over memory
