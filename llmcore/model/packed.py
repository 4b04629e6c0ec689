"""A model prepared for decoding on a CPU: weights in the order in which the kernels read them, fewer operations.

A token of one text reads every weight once, so decoding is as fast as memory. From a matrix as it was loaded, torch
reads at a third of memory's rate; here each is reordered once. All layers take fp32 and return fp32, whatever their
weights are, so between the products nothing is rounded. Nothing is trained or saved in this form.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmcore.base.errors import UserError
from llmcore.base.matmul import linear, native_bf16, uses_openblas
from llmcore.base.openmp import gives_threads
from llmcore.model.gpt2 import MLP
from llmcore.model.int8 import Int8Linear
from llmcore.model.llama import GatedMLP, GroupedQueryAttention
from llmcore.model.transformer import LanguageModel

Pack = Callable[..., nn.Module]  # of a linear layer, with gelu=True also of the GELU behind it


class PackedLinear(nn.Module):
    """A linear layer, and a GELU behind it if asked for, whose weights oneDNN has ordered for its kernels."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype, gelu: bool = False):
        super().__init__()
        self.dtype = dtype
        # operations that torch does not document; torch is pinned, and a test compares
        self.weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().to(dtype))
        self.bias = None if layer.bias is None else layer.bias.detach().to(dtype)
        self.activation = ("gelu", "tanh") if gelu else ("none", "")

    def forward(self, x: Tensor) -> Tensor:
        if gives_threads():
            name, algorithm = self.activation
            found = torch.ops.mkldnn._linear_pointwise(x.to(self.dtype), self.weight, self.bias, name, [], algorithm)
            out: Tensor = found.float()
            return out
        bias = None if self.bias is None else self.bias.float()
        out = linear(x, self.weight.to_dense().float(), bias)
        return F.gelu(out, approximate="tanh") if self.activation[0] == "gelu" else out


class Fp16Linear(nn.Module):
    """A linear layer with weights in fp16 and results in fp32, for the head: oneDNN would round logits to bf16."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        bias = None if layer.bias is None else layer.bias.detach()
        self.packed = torch.ops.quantized.linear_prepack_fp16(layer.weight.detach(), bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self.packed)
        return out


class PackedMLP(nn.Module):
    """GPT-2's MLP, its GELU a part of the first product."""

    def __init__(self, mlp: MLP, pack: Pack):
        super().__init__()
        self.c_fc = pack(mlp.c_fc, gelu=True)
        self.c_proj = pack(mlp.c_proj)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(self.c_fc(x))
        return out


class PackedGatedMLP(nn.Module):
    """Llama's MLP, its two first products in one."""

    def __init__(self, mlp: GatedMLP, pack: Pack):
        super().__init__()
        self.gate_and_up = pack(stacked([mlp.gate_proj, mlp.up_proj]))
        self.down_proj = pack(mlp.down_proj)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_and_up(x).chunk(2, -1)
        out: Tensor = self.down_proj(F.silu(gate).mul_(up))
        return out


class PackedAttention(GroupedQueryAttention):
    """Llama's attention, its three first products in one."""

    def __init__(self, attention: GroupedQueryAttention, pack: Pack):
        nn.Module.__init__(self)
        self.config = attention.config
        self.q_norm, self.k_norm = attention.q_norm, attention.k_norm
        inputs = [attention.q_proj, attention.k_proj, attention.v_proj]
        self.widths = [layer.out_features for layer in inputs]
        self.qkv = pack(stacked(inputs))
        self.add_module("o_proj", pack(attention.o_proj))

    def project(self, x: Tensor) -> Sequence[Tensor]:
        found: Sequence[Tensor] = self.qkv(x).split(self.widths, -1)
        return found


def stacked(layers: Sequence[nn.Linear]) -> nn.Linear:
    """Return one layer that computes the outputs of all, one behind the other."""
    with torch.device("meta"):
        found = nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers))
    found.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]))
    biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
    found.register_parameter("bias", nn.Parameter(torch.cat(biases)) if biases else None)
    return found


FUSED: dict[type[nn.Module], Callable[..., nn.Module]] = {
    MLP: PackedMLP,
    GatedMLP: PackedGatedMLP,
    GroupedQueryAttention: PackedAttention,
}


@torch.no_grad()
def prepare_for_decoding(model: LanguageModel, precision: str) -> None:
    """Put packed layers in place of all linear ones, the head too, in place.

    `fp32` computes what the model does, up to the order of sums; where that cannot be faster (on another device, in
    portable numerics), the model stays as it is. UserError where this machine does not compute in `precision`.
    """
    on_cpu = model.device.type == "cpu"
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    has_fbgemm = "fbgemm" in torch.backends.quantized.supported_engines
    if precision == "int8":
        if not (on_cpu and has_fbgemm):
            raise UserError("--precision: int8 works on an x86 CPU only; use fp32")
        pack: Pack = Int8Linear
    elif precision == "bf16":
        if not (on_cpu and has_fbgemm and native_bf16("cpu") and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
            raise UserError("--precision: bf16 needs an x86 CPU with avx512_bf16 or amx_bf16; use fp32 or int8")
        pack = partial(PackedLinear, dtype=torch.bfloat16)
    elif on_cpu and has_onednn and not uses_openblas(model.lm_head.weight):
        pack = partial(PackedLinear, dtype=torch.float32)
    else:
        return
    # int8 in the head alone would make about a quarter of its divergence from fp32
    in_fp16 = precision != "fp32" and bool(model.lm_head.weight.abs().max() <= torch.finfo(torch.float16).max)
    head = Fp16Linear(model.lm_head) if in_fp16 else pack(model.lm_head)
    _replace_layers(model.body, pack)
    model.add_module("lm_head", head)


def _replace_layers(parent: nn.Module, pack: Pack) -> None:
    for name, child in parent.named_children():
        if type(child) in FUSED:
            setattr(parent, name, FUSED[type(child)](child, pack))
        elif isinstance(child, nn.Linear):
            setattr(parent, name, pack(child))
        elif isinstance(child, nn.Dropout):
            setattr(parent, name, nn.Identity())
        else:
            _replace_layers(child, pack)
