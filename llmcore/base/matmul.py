"""Matrix products, which portable numerics compute with NumPy's OpenBLAS.

torch multiplies with MKL, whose results depend on the CPU's vendor. OpenBLAS, held to one set of kernels by
`base.numerics`, gives the same bytes on every CPU with AVX2, and on AMD's it is the faster one.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llmcore.base.numerics import is_portable

BF16_CAPABILITIES = ("avx512_bf16", "amx_bf16", "bf16")  # as torch names them, the last on ARM

_PORTABLE = is_portable()  # settled while the libraries load


def uses_openblas(*tensors: Tensor) -> bool:
    """Return whether a product of these is computed portably: in fp32 on a CPU, where numerics are portable."""
    is_fp32_on_cpu = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
    return _PORTABLE and is_fp32_on_cpu and not torch.is_autocast_enabled("cpu")


def native_bf16(device: str) -> bool:
    """Return whether a device computes matmuls in bf16; a CPU that does not takes a hundred times as long."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and any(torch.cpu.get_capabilities().get(key) for key in BF16_CAPABILITIES)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute F.linear: input (..., in), weight (out, in), bias (out,) -> (..., out)."""
    if not uses_openblas(input, weight):
        return F.linear(input, weight, bias)
    out: Tensor = _Linear.apply(input, weight, bias)  # type: ignore[no-untyped-call]
    return out


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Compute a @ b of matrices (..., n, k) and (..., k, m), their leading dimensions being equal."""
    if not uses_openblas(a, b):
        return a @ b
    out: Tensor = _Matmul.apply(a, b)  # type: ignore[no-untyped-call]
    return out


def openblas_matmul(a: Tensor, b: Tensor) -> Tensor:
    """Compute a @ b of matrices (..., n, k) and (..., k, m) in fp32, without gradients."""
    out = torch.empty(*a.shape[:-1], b.shape[-1])
    with np.errstate(all="ignore"):  # an overflow is infinity, as in torch
        np.matmul(_array(a), _array(b), out=out.numpy())
    return out


class _Matmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return openblas_matmul(a, b)

    @staticmethod
    def backward(ctx: Any, *output_grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        (grad,) = output_grads
        needs_a, needs_b = ctx.needs_input_grad
        return openblas_matmul(grad, b.mT) if needs_a else None, openblas_matmul(a.mT, grad) if needs_b else None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        out = openblas_matmul(input.flatten(0, -2), weight.mT)  # (N, out)
        if bias is not None:
            out += bias
        return out.view(*input.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, *output_grads: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        grad = output_grads[0].flatten(0, -2)  # (N, out)
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            openblas_matmul(grad, weight).view(input.shape) if needs_input else None,
            openblas_matmul(grad.mT, input.flatten(0, -2)) if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )


def _array(x: Tensor) -> np.ndarray:
    """View a tensor as an array that BLAS takes: without a stride of 1 NumPy would multiply in a slow loop."""
    x = x.detach() if x.requires_grad else x
    return (x if 1 in x.stride()[-2:] else x.contiguous()).numpy()
