"""AdamW with two groups, matrices decay, vectors do not; or Muon for the matrices of the blocks.

Paper: Loshchilov & Hutter 2017, arXiv:1711.05101.
"""

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from llmcore.train.muon import MuonWithAdamW
from llmcore.train.state import Module, trained_parameters

if TYPE_CHECKING:
    from llmcore.config.params import TrainingParams


class Trainable(Module, Protocol):
    """What the loop knows of a model."""

    @property
    def body(self) -> Any:
        """The part with the `blocks`."""
        ...

    def train(self, mode: bool = True) -> Any: ...

    def eval(self) -> Any: ...

    def block_parameters(self) -> set[nn.Parameter]:
        """Return the parameters of the blocks, without embeddings, final norm and head."""
        ...


def make_optimizer(model: Trainable, params: "TrainingParams") -> torch.optim.AdamW:
    """Return the optimizer of the parameters to be trained; biases and norms are not decayed.

    `params.optimizer` is `adamw`, or `muon`: Muon for the matrices of the blocks, AdamW for all else.
    """
    betas = (params.beta1, params.beta2)
    trained = list(trained_parameters(model).values())
    matrices = [parameter for parameter in trained if parameter.ndim >= 2]
    vectors = [parameter for parameter in trained if parameter.ndim < 2]
    in_blocks = model.block_parameters() if params.optimizer == "muon" else set()
    groups = [
        {"params": [p for p in matrices if p not in in_blocks], "weight_decay": params.weight_decay, "muon": False},
        {"params": vectors, "weight_decay": 0.0, "muon": False},
        {"params": [p for p in matrices if p in in_blocks], "weight_decay": params.weight_decay, "muon": True},
    ]
    kind = MuonWithAdamW if params.optimizer == "muon" else torch.optim.AdamW
    used = groups if params.optimizer == "muon" else groups[:2]
    return kind(used, lr=params.lr, betas=betas, fused=True)  # fused: one pass over memory
