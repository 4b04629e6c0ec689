"""torch's linear and embedding layers, without drawing numbers, and with the faster product where one decodes."""

import torch
from torch import Tensor, nn


class Linear(nn.Linear):
    """torch's, but its numbers are read from a file or drawn by `initialise`; until then they are NaN.

    Where nothing is differentiated, on a CPU in fp32, oneDNN multiplies in place of torch's default (MKL): of one to
    64 rows, as in decoding, it makes the product up to three times as fast. Gradients it makes more slowly.
    """

    def reset_parameters(self) -> None:
        fill_nan(self)

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not onednn_takes(input, self.weight):
            return super().forward(input)
        # not a documented operation of torch; torch is pinned, and a test compares
        out: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return out


def onednn_takes(input: Tensor, weight: Tensor) -> bool:
    """Return whether a product is one that oneDNN computes as exactly as torch's default."""
    is_fp32_on_cpu = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in (input, weight))
    return is_fp32_on_cpu and torch.backends.mkldnn.is_available() and not torch.is_autocast_enabled("cpu")


class Embedding(nn.Embedding):
    """torch's, its numbers as `Linear`'s."""

    def reset_parameters(self) -> None:
        fill_nan(self)


@torch.no_grad()
def fill_nan(module: nn.Module) -> None:
    """Make a forgotten initialisation loud. Drawing, on the meta device, would load a second's worth of modules."""
    for parameter in module.parameters():
        parameter.fill_(torch.nan)
