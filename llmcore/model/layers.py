"""nn.Linear and nn.Embedding without random initialisation; Linear multiplies with the library that suits best."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmcore.base.matmul import linear, uses_openblas
from llmcore.base.openmp import gives_threads


class Linear(nn.Linear):
    """nn.Linear whose weights come from a file or from `initialise`; until then they are NaN.

    Where numerics are portable, the matmul is `base.matmul`'s. Otherwise, without gradients and in fp32 on a CPU, it
    is oneDNN's instead of torch's default (MKL's): with one to 64 rows, as in decoding, up to three times as fast.
    """

    def reset_parameters(self) -> None:
        fill_nan(self)

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not onednn_takes(input, self.weight):
            return linear(input, self.weight, self.bias)
        # an operation that torch does not document; torch is pinned, and a test compares
        out: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return out


def matmul_dtype(x: Tensor) -> torch.dtype:
    """Return the type in which x is multiplied: autocast's where it is enabled."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def onednn_takes(input: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN computes this matmul as exactly as torch's default, and numerics are not portable."""
    is_fp32_on_cpu = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in (input, weight))
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    takes = is_fp32_on_cpu and available and not torch.is_autocast_enabled("cpu")
    return takes and not uses_openblas(input, weight) and gives_threads()


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm that takes its parameters in another type than its input, as bf16 shards are gathered."""

    def forward(self, input: Tensor) -> Tensor:
        if self.weight.dtype == input.dtype:
            return super().forward(input)
        weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class Embedding(nn.Embedding):
    """nn.Embedding whose weights come from a file or from `initialise`; until then they are NaN."""

    def reset_parameters(self) -> None:
        fill_nan(self)


@torch.no_grad()
def fill_nan(module: nn.Module) -> None:
    """Make a forgotten initialisation visible. torch's own, on the meta device, takes a second of imports."""
    for parameter in module.parameters():
        parameter.fill_(torch.nan)
