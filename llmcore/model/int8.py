"""Linear layers in int8, for decoding on a CPU: a quarter of the memory to read, which is what a token costs.

Each row of a weight has its own scale, so that its largest entry is 127. The inputs are not rounded to 8 bits, which
costs more than all the rest: each is a sum of two digits of 7 bits, and both go through the same integer matmul, so
the weights are read once. torch's kernels do the work. Nothing is trained or saved in this form.
"""

import warnings

import torch
from torch import Tensor, nn

from llmcore.base.errors import UserError
from llmcore.model.transformer import LanguageModel

DIGIT = 63  # the largest: seven bits keep the kernels' sums of 16 bits from overflowing on CPUs before VNNI
LOW_DIGITS = 2 * DIGIT  # in one step of the high digit


class Int8Linear(nn.Module):
    """A linear layer with rounded weights: fp32 in, fp32 out."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        weight = layer.weight.detach().float()  # (out, in)
        scales = weight.abs().amax(1).clamp(min=1e-12) / 127  # (out,)
        zeros = torch.zeros_like(scales, dtype=torch.int64)
        rounded = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(rounded, None)
        self.bias = weight.new_zeros(()) if layer.bias is None else layer.bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])  # (N, in)
        scales = rows.abs().amax(1, keepdim=True).clamp_(min=1e-30).div_(DIGIT)  # (N, 1)
        scaled = rows / scales
        high = scaled.round()
        digits = torch.cat([high, scaled.sub_(high).mul_(LOW_DIGITS)])  # (2 N, in)
        # with scale 1 and an offset that makes them positive, the kernel rounds the digits to whole numbers
        found = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(digits, 1.0, DIGIT, self.packed)
        high, low = found.chunk(2)  # (N, out) each
        out: Tensor = torch.addcmul(self.bias, high.add_(low, alpha=1 / LOW_DIGITS), scales)
        return out.view(*x.shape[:-1], -1)


@torch.no_grad()
def to_int8(model: LanguageModel) -> None:
    """Put int8 in place of every linear layer, the head too, in place; UserError where it cannot be computed."""
    if model.device.type != "cpu" or "fbgemm" not in torch.backends.quantized.supported_engines:
        raise UserError("int8: works on an x86 CPU only; leave it out")
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    with warnings.catch_warnings():  # these kernels are to be replaced in a later torch; ours is pinned
        warnings.filterwarnings("ignore", message="torch.quantize_per")
        for name, layer in layers:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, Int8Linear(layer))
