"""Llama: rotary positions, RMS norms, a gated MLP, heads of keys and values that groups of query heads share.

Papers: Touvron et al. 2023, arXiv:2302.13971; rotary positions, Su et al. 2021, arXiv:2104.09864; SwiGLU, Shazeer 2020,
arXiv:2002.05202; grouped queries, Ainslie et al. 2023, arXiv:2305.13245. Mistral is the same; Qwen2 adds biases to
query, key and value, Qwen3 norms on queries and keys. Parameters carry Hugging Face's names.

Shapes in the margin: B batch, T time (tokens), S tokens seen, C = n_embd, H heads, G heads of keys and values, D head
size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmcore.model.attention import COPY_GAIN, Layout, attention_weights, fused_attention
from llmcore.model.cache import LayerCache
from llmcore.model.layers import Embedding, Linear, matmul_dtype
from llmcore.model.rotary import Rotary, rotate, rotation
from llmcore.model.transformer import ModelConfig, Transformer


@dataclass(frozen=True)
class LlamaConfig(ModelConfig):
    model_type: ClassVar[str] = "llama"
    transformer_name: ClassVar[str] = "model"

    n_kv_head: int  # heads of keys and values; a divisor of n_head
    head_size: int
    intermediate_size: int  # width of the MLP
    norm_eps: float
    rotary: Rotary
    qkv_bias: bool = False
    qk_norm: bool = False

    @property
    def key_value_shape(self) -> tuple[int, int]:
        return self.n_kv_head, self.head_size


class RMSNorm(nn.Module):
    """Divide by the root mean square, then scale: a layer norm without mean and bias. Zhang & Sennrich 2019."""

    def __init__(self, n_features: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_features))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        normed = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.eps)
        # products follow: rounded here once, and not by each of them
        return (self.weight * normed).to(matmul_dtype(x))


class GroupedQueryAttention(nn.Module):
    """Each position gathers from itself and those before it; queries and keys are turned by their positions."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.config = config
        size, width, bias = config.head_size, config.n_embd, config.qkv_bias
        self.q_proj = Linear(width, config.n_head * size, bias=bias)
        self.k_proj = Linear(width, config.n_kv_head * size, bias=bias)
        self.v_proj = Linear(width, config.n_kv_head * size, bias=bias)
        self.o_proj = Linear(config.n_head * size, width, bias=False)
        self.q_norm = RMSNorm(size, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(size, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, layout: Layout, cache: LayerCache | None = None) -> Tensor:
        query, key, value = self.heads(x, layout)  # (B, H, T, D), (B, G, T, D) twice
        if cache is not None:
            key, value = cache.append(key, value)  # (B, G, S, D)
        dropout = self.config.dropout if self.training else 0.0
        gathered = fused_attention(query, key, value, dropout, layout.mask)  # (B, H, T, D)
        out: Tensor = self.o_proj(gathered.transpose(1, 2).flatten(2))  # (B, T, C)
        return out

    def project(self, x: Tensor) -> Sequence[Tensor]:
        """Return query (B, T, H D), key and value (B, T, G D)."""
        return self.q_proj(x), self.k_proj(x), self.v_proj(x)

    def heads(self, x: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
        """Project (B, T, C) to query (B, H, T, D), key and value (B, G, T, D), the first two normed and turned."""
        query, key, value = (
            projected.view(*x.shape[:2], -1, self.config.head_size) for projected in self.project(x)
        )  # (B, T, H or G, D)
        query, key = self.q_norm(query).transpose(1, 2), self.k_norm(key).transpose(1, 2)  # (B, H or G, T, D)
        assert layout.rotation is not None
        return rotate(query, layout.rotation), rotate(key, layout.rotation), value.transpose(1, 2)

    @torch.no_grad()
    def begin_as_copy(self) -> None:
        """Make the output projection the transpose of the value projection, as gpt2.py does and says why."""
        value = self.v_proj.weight.mul_(COPY_GAIN).view(self.config.n_kv_head, -1, self.config.n_embd)  # (G, D, C)
        of_each_head = value.repeat_interleave(self.config.n_head // self.config.n_kv_head, dim=0)  # (H, D, C)
        self.o_proj.weight.copy_(of_each_head.flatten(0, 1).T)


class GatedMLP(nn.Module):
    """SwiGLU: one projection opens and closes the other. The position-wise part of a block."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.gate_proj = Linear(config.n_embd, config.intermediate_size, bias=False)
        self.up_proj = Linear(config.n_embd, config.intermediate_size, bias=False)
        self.down_proj = Linear(config.intermediate_size, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class LlamaBlock(nn.Module):
    """Attention, then MLP, with a norm before and a residual around each."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        self.input_layernorm = RMSNorm(config.n_embd, config.norm_eps)
        self.self_attn = GroupedQueryAttention(config)
        self.post_attention_layernorm = RMSNorm(config.n_embd, config.norm_eps)
        self.mlp = GatedMLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, layout: Layout, cache: LayerCache | None = None) -> Tensor:
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), layout, cache))  # (B, T, C)
        out: Tensor = x + self.dropout(self.mlp(self.post_attention_layernorm(x)))
        return out

    def attention_weights(self, x: Tensor, layout: Layout) -> Tensor:
        query, key, _ = self.self_attn.heads(self.input_layernorm(x), layout)
        return attention_weights(query, key)  # (B, H, T, T)


class LlamaTransformer(Transformer):
    """Llama without its head."""

    config: LlamaConfig

    def __init__(self, config: LlamaConfig):
        super().__init__(config)
        self.embed_tokens = Embedding(config.vocab_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(LlamaBlock(config) for _ in range(config.n_layer))
        self.norm = RMSNorm(config.n_embd, config.norm_eps)

    @property
    def embeddings(self) -> Sequence[nn.Embedding]:
        return (self.embed_tokens,)

    @property
    def blocks(self) -> nn.ModuleList:
        return self.layers

    @property
    def final_norm(self) -> nn.Module:
        return self.norm

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        x: Tensor = self.dropout(self.embed_tokens(ids))  # (B, T, C)
        return x

    def prepared(self, layout: Layout) -> Layout:
        """Add the rotation of each position, which all blocks share."""
        turned = rotation(layout.positions, self.config.rotary, self.config.head_size)
        return layout._replace(rotation=turned.to(self.norm.weight.dtype))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the initial weights as gpt2.py does: N(0, 0.02), residual projections scaled, biases 0, norms 1."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "norm" in name:
                parameter.fill_(1.0)
            else:
                scale = (
                    math.sqrt(2 * self.config.n_layer) if name.endswith(("o_proj.weight", "down_proj.weight")) else 1
                )
                parameter.normal_(0.0, 0.02 / scale, generator=generator)
        for module in self.modules():
            if isinstance(module, GroupedQueryAttention):
                module.begin_as_copy()
