"""Linear layers in int8, for decoding on a CPU: a quarter of the memory to read, which is what a token costs.

Each row and each column of a weight has its own scale, so that the largest entry of a row is 127. The inputs are not
rounded to 8 bits, which costs more than all the rest: each is a sum of two digits of 7 bits, and both go through the
same integer matmul, so the weights are read once. torch's kernels do the work.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIGIT = 63  # the largest: seven bits keep the kernels' sums of 16 bits from overflowing on CPUs before VNNI
LOW_DIGITS = 2 * DIGIT  # in one step of the high digit


class Int8Linear(nn.Module):
    """A linear layer with rounded weights: fp32 in, fp32 out."""

    def __init__(self, layer: nn.Linear, gelu: bool = False):
        super().__init__()
        weight = layer.weight.detach().float()  # (out, in)
        # inputs keep 14 bits, so they carry what differs between columns; else a large column would round its row away
        relative = weight / weight.abs().amax(1, keepdim=True).clamp(min=1e-12)
        self.columns = relative.abs().amax(0).clamp(min=1e-6)  # (in,)
        weight = weight / self.columns
        scales = weight.abs().amax(1).clamp(min=1e-12) / 127  # (out,)
        zeros = torch.zeros_like(scales, dtype=torch.int64)
        with warnings.catch_warnings():  # these kernels are to be replaced in a later torch; ours is pinned
            warnings.filterwarnings("ignore", message="torch.quantize_per")
            rounded = torch.quantize_per_channel(weight, scales.double(), zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(rounded, None)
        self.bias = weight.new_zeros(()) if layer.bias is None else layer.bias.detach().float()
        self.digits = torch.tensor([DIGIT, DIGIT * LOW_DIGITS], dtype=torch.float32)[:, None, None]  # (2, 1, 1)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]) * self.columns  # (N, in)
        scales = rows.abs().amax(1, keepdim=True).clamp_(min=1e-30)  # (N, 1)
        digits = rows / scales * self.digits  # (2, N, in)
        high, low = digits.unbind()
        low.sub_(high.round_(), alpha=LOW_DIGITS)
        # with scale 1 and an offset that makes them positive, the kernel rounds the digits to whole numbers
        found = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(digits, 1.0, DIGIT, self.packed)
        high, low = found.unbind()  # (N, out) each
        out: Tensor = torch.addcmul(self.bias, high.add_(low, alpha=1 / LOW_DIGITS), scales, value=1 / DIGIT)
        out = out.view(*x.shape[:-1], -1)
        return F.gelu(out, approximate="tanh") if self.gelu else out
