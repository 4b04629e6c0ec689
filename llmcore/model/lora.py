"""LoRA: train a low-rank update of chosen linear layers and leave the layers themselves frozen.

W x becomes W x + scale * B (A (dropout x)) with A (rank x in) random and B (out x rank) zero, so the
model starts as the base. Paper: Hu et al. 2021, arXiv:2106.09685. Book: appendix E.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmcore.base.errors import UserError
from llmcore.base.matmul import linear, matmul
from llmcore.model.layers import Linear, matmul_dtype


def update_scale(scaling: str, alpha: float, rank: int) -> float:
    """Return the factor of an update.

    `alpha/rank` is the paper's; `alpha` the book's first printing's; `rslora` is alpha / sqrt(rank), with
    which a larger rank does not learn more slowly (Kalajdzievski 2023, arXiv:2312.03732).
    """
    return {"alpha/rank": alpha / rank, "alpha": alpha, "rslora": alpha / math.sqrt(rank)}[scaling]


class LoRALinear(Linear):
    """A linear layer with a low-rank update; its own weight keeps its name, so base weights load untouched."""

    def __init__(self, base: nn.Linear, rank: int, scale: float, dropout: float, generator: torch.Generator):
        with torch.device("meta"):  # the base's parameters are used, none are allocated
            super().__init__(base.in_features, base.out_features, bias=base.bias is not None)
        self.weight = base.weight
        self.bias = base.bias
        self.scale = scale
        self.dropout = dropout
        bound = 1 / math.sqrt(base.in_features)  # Kaiming uniform with a = sqrt(5), as in the paper's code
        a = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_a = nn.Parameter(a.to(base.weight))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        self.train(base.training)  # a layer put into a model in evaluation mode must not drop inputs

    def forward(self, input: Tensor) -> Tensor:
        input = input.to(matmul_dtype(input))  # once for the two products
        down = linear(F.dropout(input, self.dropout, self.training), self.lora_a)  # (..., rank)
        return super().forward(input) + linear(self.scale * down, self.lora_b)

    def merged_weight(self) -> Tensor:
        """Return W + scale * B A."""
        return self.weight + self.scale * matmul(self.lora_b, self.lora_a)


def apply_lora(
    model: nn.Module,
    targets: Sequence[str],
    *,
    rank: int,
    alpha: float,
    scaling: str,
    dropout: float,
    generator: torch.Generator,
) -> None:
    """Add a low-rank update to every linear layer whose dotted name ends in one of `targets`, in place.

    The update is scaled by `update_scale`. Layers are taken in the model's order, so the same generator
    gives the same A. UserError if a target names no layer.
    """
    assert not lora_layers(model), "a second update would replace the first"
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    for target in targets:
        if not any(name.endswith(f".{target}") for name in layers):
            known = ", ".join(sorted({name_in_block(name) for name in layers if name_in_block(name) != name}))
            raise UserError(f"lora.targets must name linear layers of the blocks ({known}), got {target!r}; correct it")
    scale = update_scale(scaling, alpha, rank)
    for name, layer in layers.items():
        if any(name.endswith(f".{target}") for target in targets):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, LoRALinear(layer, rank, scale, dropout, generator))


def name_in_block(name: str) -> str:
    """Return a layer's name below its block: `transformer.h.0.attn.c_attn -> attn.c_attn`."""
    return re.split(r"\.\d+\.", name)[-1]


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Return the layers that have an update, by dotted name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoRALinear)}


def train_only_lora(model: nn.Module, also: Sequence[str] = ()) -> None:
    """Train only the updates, and parameters whose names begin with one of `also`."""
    for name, parameter in model.named_parameters():
        is_update = name.endswith((".lora_a", ".lora_b"))
        parameter.requires_grad_(is_update or name.startswith(tuple(also)))


@contextmanager
def frozen_in_bf16(model: nn.Module, base: Callable[[], Mapping[str, Tensor]]) -> Iterator[None]:
    """Keep the weights under the updates in bf16 within the body: half the memory, none is cast at each step.

    For training under bf16's autocast, which casts them all the same: no number of it changes. At the end the fp32
    weights are put back, as `base` gives them by name, so that merging rounds nothing.
    """
    layers = lora_layers(model)
    for layer in layers.values():
        layer.weight.data = layer.weight.data.to(torch.bfloat16)
    yield
    weights = base() if layers else {}
    for name, layer in layers.items():
        layer.weight.data = weights[f"{name}.weight"].to(layer.weight.device)


@torch.no_grad()
def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's state dict with every update added to its layer; the model is not changed."""
    state = {name: tensor for name, tensor in model.state_dict().items() if ".lora_" not in name}
    for name, layer in lora_layers(model).items():
        state[f"{name}.weight"] = layer.merged_weight()
    return state
