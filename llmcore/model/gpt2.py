"""GPT-2: learned positions, layer norms before attention and MLP, one matrix for query, key and value.

Book: chapters 3 (attention) and 4 (the architecture). Paper: Radford et al. 2019, "Language Models
are Unsupervised Multitask Learners". Parameters carry GPT-2's published names (`transformer.h.0.attn
.c_attn.weight`), so loading its weights is a copy.

Shapes in the margin: B batch, T time (tokens), S tokens seen, C = n_embd, H heads, D = C / H.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmcore.base.errors import UserError
from llmcore.model.architecture import Architecture, StoredTensor
from llmcore.model.attention import COPY_GAIN, Layout, attention_weights, fused_attention
from llmcore.model.cache import LayerCache
from llmcore.model.config_json import check_computed, flag, positive_integer
from llmcore.model.layers import Embedding, LayerNorm, Linear
from llmcore.model.transformer import ModelConfig, Transformer


@dataclass(frozen=True)
class GPT2Config(ModelConfig):
    model_type: ClassVar[str] = "gpt2"
    transformer_name: ClassVar[str] = "transformer"

    qkv_bias: bool


class CausalSelfAttention(nn.Module):
    """Each position gathers from itself and the positions before it. Book: chapter 3.6."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=config.qkv_bias)  # query, key, value in one
        self.c_proj = Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, layout: Layout, cache: LayerCache | None = None) -> Tensor:
        query, key, value = self.heads(x)  # (B, H, T, D) each
        if cache is not None:
            key, value = cache.append(key, value)  # (B, H, S, D) with S >= T: what was seen before, and x
        dropout = self.dropout if self.training else 0.0
        gathered = fused_attention(query, key, value, dropout, layout.mask)  # (B, H, T, D)
        out: Tensor = self.c_proj(gathered.transpose(1, 2).flatten(2))  # (B, T, C)
        return out

    @torch.no_grad()
    def begin_as_copy(self) -> None:
        """Make the output projection the transpose of the value projection, so that a head adds what it reads.

        The product of the two is then close to a multiple of the identity. A model that begins so learns to copy all
        words at once; from independent projections a small one learns it late, for one class of words after another.
        After Trockman & Kolter 2023, arXiv:2305.09828.
        """
        value = self.c_attn.weight[-self.c_proj.in_features :]  # (C, C): all heads' rows
        self.c_proj.weight.copy_(value.mul_(COPY_GAIN).T)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project (B, T, C) to query, key and value, split into heads: (B, H, T, D) each."""
        batch, time, _ = x.shape
        projected = self.c_attn(x).view(batch, time, 3, self.n_head, -1)  # (B, T, 3, H, D)
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind()
        return query, key, value


class MLP(nn.Module):
    """Widen, bend, narrow: the position-wise part of a block. Book: chapter 4.3."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))  # GPT-2's GELU is the tanh form
        return out


class GPT2Block(nn.Module):
    """Attention, then MLP, with a layer norm before and a residual around each. Book: chapter 4.5."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm(config.n_embd)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, layout: Layout, cache: LayerCache | None = None) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x), layout, cache))  # (B, T, C)
        out: Tensor = x + self.dropout(self.mlp(self.ln_2(x)))
        return out

    def attention_weights(self, x: Tensor, layout: Layout) -> Tensor:
        query, key, _ = self.attn.heads(self.ln_1(x))
        return attention_weights(query, key)  # (B, H, T, T)


class GPT2Transformer(Transformer):
    """GPT-2 without its head."""

    config: GPT2Config

    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.context_length, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(GPT2Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)

    @property
    def embeddings(self) -> Sequence[nn.Embedding]:
        return self.wte, self.wpe

    @property
    def blocks(self) -> nn.ModuleList:
        return self.h

    @property
    def final_norm(self) -> nn.Module:
        return self.ln_f

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        x: Tensor = self.dropout(self.wte(ids) + self.wpe(positions))  # (B, T, C)
        return x

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw GPT-2's initial weights: N(0, 0.02), residual projections scaled, biases 0, norms 1.

        The output projections of the attention differ from GPT-2's: each head begins by copying what it reads.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "ln_" in name:
                parameter.fill_(1.0)
            else:
                # 2 n_layer residual branches add up; scaling keeps the sum's variance (GPT-2 paper, 2.3)
                scale = math.sqrt(2 * self.config.n_layer) if name.endswith("c_proj.weight") else 1.0
                parameter.normal_(0.0, 0.02 / scale, generator=generator)
        for module in self.modules():
            if isinstance(module, CausalSelfAttention):
                module.begin_as_copy()

    @torch.no_grad()
    def crop_context(self, context_length: int) -> None:
        super().crop_context(context_length)
        positions = Embedding(context_length, self.config.n_embd)
        positions.weight = nn.Parameter(self.wpe.weight[:context_length].clone())
        self.wpe = positions


# Every tensor of the published form, `{}` for the number of a layer. GPT-2's linear layers keep their weights
# as (in, out), torch's as (out, in).
TENSORS = {
    "transformer.wte.weight": StoredTensor("token embedding"),
    "transformer.wpe.weight": StoredTensor("positions"),
    "transformer.h.{}.ln_1.weight": StoredTensor("layer norms"),
    "transformer.h.{}.ln_1.bias": StoredTensor("layer norms"),
    "transformer.h.{}.attn.c_attn.weight": StoredTensor("attention", transposed=True),
    "transformer.h.{}.attn.c_attn.bias": StoredTensor("attention"),
    "transformer.h.{}.attn.c_proj.weight": StoredTensor("attention", transposed=True),
    "transformer.h.{}.attn.c_proj.bias": StoredTensor("attention"),
    "transformer.h.{}.ln_2.weight": StoredTensor("layer norms"),
    "transformer.h.{}.ln_2.bias": StoredTensor("layer norms"),
    "transformer.h.{}.mlp.c_fc.weight": StoredTensor("MLP", transposed=True),
    "transformer.h.{}.mlp.c_fc.bias": StoredTensor("MLP"),
    "transformer.h.{}.mlp.c_proj.weight": StoredTensor("MLP", transposed=True),
    "transformer.h.{}.mlp.c_proj.bias": StoredTensor("MLP"),
    "transformer.ln_f.weight": StoredTensor("layer norms"),
    "transformer.ln_f.bias": StoredTensor("layer norms"),
    "lm_head.weight": StoredTensor("head"),  # of a language model; absent where it is the token embedding
    "score.weight": StoredTensor("head"),  # of a classifier
}

# settings of other GPT-2 variants that this model does not compute: key -> the values that it does
COMPUTED = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def config_to_json(config: ModelConfig, end_of_text: int) -> dict[str, Any]:
    """Return `config.json` as transformers reads it, with `qkv_bias` beside."""
    assert isinstance(config, GPT2Config)
    return {
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_ctx": config.context_length,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "tie_word_embeddings": config.tied_head,
        "qkv_bias": config.qkv_bias,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "pad_token_id": end_of_text,
        "dtype": "float32",
    }


def config_from_json(values: Mapping[str, Any], source: str) -> GPT2Config:
    """Read the values of `config.json`; a setting that GPT-2 here does not compute is a UserError naming the key."""
    check_computed(values, COMPUTED, source)
    config = GPT2Config(
        vocab_size=positive_integer(values, "vocab_size", source),
        context_length=positive_integer(values, "n_positions", source),
        n_layer=positive_integer(values, "n_layer", source),
        n_head=positive_integer(values, "n_head", source),
        n_embd=positive_integer(values, "n_embd", source),
        dropout=values.get("resid_pdrop", 0.1),  # one number for all three of GPT-2's, which configs may leave out
        qkv_bias=flag(values, "qkv_bias", source, default=True),
        tied_head=flag(values, "tie_word_embeddings", source, default=True),
    )
    if type(config.dropout) not in (int, float) or not 0 <= config.dropout < 1:
        raise UserError(f"{source}: resid_pdrop must be a number from 0 to below 1, got {config.dropout!r}; correct it")
    if config.n_embd % config.n_head:
        rule = f"n_embd must be a multiple of n_head ({config.n_head})"
        raise UserError(f"{source}: {rule}, got {config.n_embd}; restore the file")
    if values.get("n_inner") not in (None, 4 * config.n_embd):
        raise UserError(f"{source}: n_inner must be 4 n_embd, got {values['n_inner']!r}; give a GPT-2 model folder")
    return config


def config_from_params(values: Mapping[str, Any], vocab_size: int) -> GPT2Config:
    """Return the config of a model that is pretrained here."""
    keys = ("context_length", "n_layer", "n_head", "n_embd", "dropout", "qkv_bias", "tied_head")
    return GPT2Config(vocab_size=vocab_size, **{key: values[key] for key in keys})


def zero_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the biases that GPT-2's form has and a model without QKV bias has not: stored as zeros."""
    assert isinstance(config, GPT2Config)
    if config.qkv_bias:
        return {}
    names = (f"transformer.h.{layer}.attn.c_attn.bias" for layer in range(config.n_layer))
    return dict.fromkeys(names, (3 * config.n_embd,))


ARCHITECTURE = Architecture(
    config=GPT2Config,
    transformer=GPT2Transformer,
    language_model="GPT2LMHeadModel",
    classifier="GPT2ForSequenceClassification",
    config_to_json=config_to_json,
    config_from_json=config_from_json,
    config_from_params=config_from_params,
    tensors=TENSORS,
    # the attention mask, which some checkpoints store
    ignored_tensors=frozenset({"transformer.h.{}.attn.bias", "transformer.h.{}.attn.masked_bias"}),
    zero_tensors=zero_tensors,
    tied_to="transformer.wte.weight",
    positions="transformer.wpe.weight",
    layer_pattern=r"\.h\.\d+\.",
    lora_targets=("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
    fan_in_fan_out=True,
)
