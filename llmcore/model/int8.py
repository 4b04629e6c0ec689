"""Linear layers in int8, for decoding on a CPU: a quarter of the memory to read, which is what a token costs.

Each row of a weight has its own scale, so that its largest entry is 127; inputs are rounded to 8 bits as they come.
torch's kernels do the work. Nothing is trained or saved in this form.
"""

import warnings

import torch
from torch import Tensor, nn

from llmcore.base.errors import UserError
from llmcore.model.transformer import LanguageModel


class Int8Linear(nn.Module):
    """A linear layer with rounded weights: fp32 in, fp32 out."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        weight = layer.weight.detach().float()  # (out, in)
        scales = weight.abs().amax(1).clamp(min=1e-12) / 127  # (out,)
        zeros = torch.zeros_like(scales, dtype=torch.int64)
        rounded = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        bias = None if layer.bias is None else layer.bias.detach().float()
        self.packed = torch.ops.quantized.linear_prepack(rounded, bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.quantized.linear_dynamic(x, self.packed, True)  # True: 7 bits, for CPUs before VNNI
        return out


@torch.no_grad()
def to_int8(model: LanguageModel) -> None:
    """Put int8 in place of every linear layer, the head too, in place; UserError if the model is not on a CPU."""
    if model.device.type != "cpu":
        raise UserError("int8: works on a CPU only; leave it out")
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    with warnings.catch_warnings():  # these kernels are to be replaced in a later torch; ours is pinned
        warnings.filterwarnings("ignore", message="torch.quantize_per")
        for name, layer in layers:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, Int8Linear(layer))
