"""What a training costs, by formulas: floating-point operations, and bytes of weights, gradients and optimizer state.

Only matmuls are counted, a multiplication and an addition as two operations, as torch's FlopCounterMode does. Attention
counts all pairs of positions, also those that causal kernels leave out. After Chowdhery et al. 2022 (PaLM,
arXiv:2204.02311), appendix B; their 6 N + 12 L C T per token is what a fully trained model has.
"""

from typing import Any

import torch
from torch import Tensor, nn

from llmcore.model.classifier import SequenceClassifier
from llmcore.model.lora import LoRALinear, lora_layers
from llmcore.model.transformer import TransformerWithHead


def training_flops(
    model: TransformerWithHead, *, rows: int, length: int, n_targets: int, n_cached_blocks: int = 0
) -> tuple[int, int]:
    """Return the operations of a forward and of a backward pass over `rows` of `length` tokens.

    `n_targets` positions go through the head. Frozen parameters have no gradient, and the first `n_cached_blocks`,
    whose output is kept (`SequenceClassifier.frozen_prefix`), are not computed.
    """
    blocks = list(model.body.blocks)[n_cached_blocks:]
    flows = _is_trained(*([] if n_cached_blocks else model.body.embeddings))  # whether a block's input has a gradient
    forward = backward = 0
    head_size = model.config.key_value_shape[1]
    for block in blocks:
        for part in block.children():  # norms, attention, MLP
            linears = [layer for layer in part.modules() if isinstance(layer, nn.Linear)]
            for layer in linears:
                is_last = layer is linears[-1]  # it reads what the others made of the part's input
                needs_input = flows or (is_last and _is_trained(*linears[:-1]))
                forward += _linear_forward(layer, rows * length)
                backward += _linear_backward(layer, rows * length, needs_input=needs_input)
            if len(linears) > 1 and hasattr(part, "heads"):
                products = 4 * rows * model.config.n_head * length**2 * head_size  # scores, weighted sum
                forward += products
                backward += 2 * products if flows or _is_trained(*linears[:-1]) else 0
            flows = flows or _is_trained(part)
    flows = flows or _is_trained(model.body.final_norm)
    head = model.score if isinstance(model, SequenceClassifier) else model.lm_head
    assert isinstance(head, nn.Linear)
    positions = rows if isinstance(model, SequenceClassifier) else n_targets
    forward += _linear_forward(head, positions)
    return forward, backward + _linear_backward(head, positions, needs_input=flows)


def weight_bytes(model: TransformerWithHead, *, bf16: bool = False) -> int:
    """Return the bytes of the parameters in fp32; with `bf16`, those under LoRA's updates take half as much."""
    halved = sum(layer.weight.numel() for layer in lora_layers(model).values()) if bf16 else 0
    return 4 * sum(parameter.numel() for parameter in model.parameters()) - 2 * halved


def gathered_bytes(model: TransformerWithHead, *, bf16: bool = False) -> int:
    """Return the bytes that a process with a shard of the model has whole at a time: two blocks, and all around them.

    The second block is on its way while the first computes; with `bf16` they travel in it.
    """
    whole = sum(parameter.numel() for parameter in model.parameters())
    blocks = [sum(parameter.numel() for parameter in block.parameters()) for block in model.body.blocks]
    return 4 * (whole - sum(blocks)) + (2 if bf16 else 4) * sum(sorted(blocks)[-2:])


def gradient_bytes(model: TransformerWithHead, *, n_micro_batches: int, processes: int) -> int:
    """Return the bytes that one process needs for gradients: sums of the tree, the newest, and the exchange.

    `n_micro_batches` are those of a process and step, a power of two. Sums of 1, 2, 4, ... micro-batches wait for their
    partner while the last gradient is computed.
    """
    copies = n_micro_batches.bit_length() + (1 if processes > 1 else 0)
    return 4 * copies * sum(parameter.numel() for parameter in _trained(model))


def optimizer_bytes(model: TransformerWithHead, optimizer: str) -> int:
    """Return the bytes of the state of `adamw` (two moments) or `muon` (one for a block's matrix), and step counts."""
    muon = model.block_parameters() if optimizer == "muon" else set()
    moments = [(1 if p in muon and p.ndim >= 2 else 2) * p.numel() + 1 for p in _trained(model)]
    return 4 * sum(moments)


class ActivationCounter:
    """Counts, within `with`, the bytes that a forward pass keeps for the backward pass, beside parameters.

    >>> with ActivationCounter() as kept:
    ...     loss = model(ids, targets=targets)
    >>> kept.bytes
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()
        self._tensors: list[Tensor] = []  # kept alive, or a later one could have the same address
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def __enter__(self) -> "ActivationCounter":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)
        self._tensors.clear()

    def _pack(self, tensor: Tensor) -> Any:
        if isinstance(tensor if tensor._base is None else tensor._base, nn.Parameter):
            return tensor
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self._tensors.append(tensor)
            self.bytes += storage.nbytes()
        return tensor.detach()  # the tensor itself would keep the graph, which keeps it


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _is_trained(*modules: nn.Module) -> bool:
    return any(_trained(module) for module in modules)


def _linear_forward(layer: nn.Linear, positions: int) -> int:
    weights = [layer.weight, layer.lora_a, layer.lora_b] if isinstance(layer, LoRALinear) else [layer.weight]
    return sum(2 * positions * weight.numel() for weight in weights)


def _linear_backward(layer: nn.Linear, positions: int, *, needs_input: bool) -> int:
    """Of each weight the gradient, if it is trained, and that of its input, if something before it is."""
    products = needs_input * layer.weight.numel() + layer.weight.requires_grad * layer.weight.numel()
    if isinstance(layer, LoRALinear):
        products += (1 + needs_input) * layer.lora_a.numel() + 2 * layer.lora_b.numel()
    return 2 * positions * products
