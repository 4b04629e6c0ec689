"""What GGUF calls the settings and tensors of each architecture; read in one direction, written in the other.

llama.cpp turns neighbouring numbers of a query or key as a pair, Hugging Face those half a head apart: in GGUF's
`llama` (Mistral is written as it, too) the rows of the two projections are therefore in another order. Qwen's are not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.model.config_json import positive_integer, positive_number
from llmcore.model.gguf_file import GgufFile
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.llama import LlamaConfig
from llmcore.model.llama_family import DEFAULT_THETA
from llmcore.model.registry import architecture
from llmcore.model.rotary import Llama3Scaling
from llmcore.model.transformer import ModelConfig

EMBEDDING = "token_embd.weight"
HEAD = "output.weight"
ROPE_FACTORS = "rope_freqs.weight"
# settings under the architecture's name that are not computed: key -> the one value that asks for nothing
NEUTRAL: dict[str, Any] = {
    "expert_count": 0,
    "expert_used_count": 0,
    "attention.causal": True,
    "attention.sliding_window": 0,
    "rope.scale_linear": 1.0,
    "rope.scaling.type": "none",
    "rope.scaling.factor": 1.0,
}
IGNORED = {"vocab_size", "tensor_data_layout", "rope.scaling.original_context_length", "rope.scaling.finetuned"}


class Place(NamedTuple):
    """Where a tensor of a file belongs: our name, and its shape in sizes of `Family.sizes`."""

    name: str
    shape: tuple[str, ...]
    is_permuted: bool = False


@dataclass(frozen=True)
class Family:
    """One `general.architecture`; `{}` in the names of tensors stands for the number of a layer."""

    name: str
    model_types: tuple[str, ...]  # in config.json, the first one for what is read
    keys: frozenset[str]  # settings that are read
    places: Mapping[str, Place]
    values_from: Callable[[GgufFile, str], dict[str, Any]]  # config.json's, as transformers spells them
    metadata_of: Callable[[Any], dict[str, int | float]]
    sizes: Callable[[Any], dict[str, int]]

    @property
    def other_tensors(self) -> set[str]:
        """Tensors beside the weights; llama.cpp applies a scaling of rotary positions to its `llama` alone."""
        return {ROPE_FACTORS} if self.name == "llama" else set()

    def tensors(self, config: ModelConfig) -> dict[str, tuple[Place, tuple[int, ...]]]:
        """Return the tensors of a model in the order in which they are written, each with its shape."""
        sizes = self.sizes(config)
        found = {}
        for name, place in self.places.items():
            if name == HEAD and config.tied_head:
                continue
            shape = tuple(sizes[size] for size in place.shape)
            for layer in range(config.n_layer if "{}" in name else 1):
                found[name.format(layer)] = place._replace(name=place.name.format(layer)), shape
        return found


def family_of(file: GgufFile) -> Family:
    """Return the family that a file names; UserError for another one."""
    name = file.metadata.get("general.architecture")
    if not isinstance(name, str) or name not in FAMILIES:
        rule = f"general.architecture must be {', '.join(map(repr, FAMILIES))}"
        raise UserError(f"{file.path}: {rule}, got {name!r}; give such a model")
    return FAMILIES[name]


def family_for(config: ModelConfig) -> Family:
    """Return the family as which a model is written."""
    for family in FAMILIES.values():
        if config.model_type in family.model_types:
            return family
    raise UserError(f"{config.model_type}: GGUF's names of its tensors are not known here; export another model")


def config_of(file: GgufFile) -> ModelConfig:
    """Return the config of a model; UserError for a setting that is missing or not computed, by its key."""
    family = family_of(file)
    for key, value in file.metadata.items():
        setting = key.removeprefix(f"{family.name}.")
        if setting == key or setting in family.keys | IGNORED or (setting in NEUTRAL and value == NEUTRAL[setting]):
            continue
        raise UserError(f"{file.path}: {key[:80]!r} = {str(value)[:40]!r} is not computed here; give another model")
    if EMBEDDING not in file.tensors:
        raise UserError(f"{file.path}: {EMBEDDING} is missing; give a file with the whole model")
    values = {
        "model_type": family.model_types[0],
        "vocab_size": file.tensors[EMBEDDING].shape[0],
        "tie_word_embeddings": HEAD not in file.tensors,
        **family.values_from(file, family.name),
    }
    return architecture(values["model_type"]).config_from_json(values, str(file.path))


def rotary_order(n_rows: int, head_size: int) -> Tensor:
    """Return the row of Hugging Face's order that each row of llama.cpp's is: (n_rows,)."""
    rows = torch.arange(n_rows).view(-1, 2, head_size // 2)  # number i of the first half, or of the second
    return rows.transpose(1, 2).flatten()


# ---- Llama, Mistral, Qwen2, Qwen3


def _llama_values(file: GgufFile, name: str) -> dict[str, Any]:
    meta, source = file.metadata, str(file.path)
    width = positive_integer(meta, f"{name}.embedding_length", source)
    n_head = positive_integer(meta, f"{name}.attention.head_count", source)
    head_size = meta.get(f"{name}.attention.key_length", width // n_head)
    for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        if (value := meta.get(f"{name}.{key}", head_size)) != head_size or type(value) is not int:
            rule = f"{name}.{key} must be the size of a head ({head_size})"
            raise UserError(f"{source}: {rule}, got {value!r}; give another model")
    theta = positive_number({f"{name}.rope.freq_base": DEFAULT_THETA, **meta}, f"{name}.rope.freq_base", source)
    key = f"{name}.attention.head_count_kv"
    return {
        "hidden_size": width,
        "num_attention_heads": n_head,
        "num_key_value_heads": positive_integer({key: n_head, **meta}, key, source),
        "head_dim": head_size,
        "max_position_embeddings": positive_integer(meta, f"{name}.context_length", source),
        "num_hidden_layers": positive_integer(meta, f"{name}.block_count", source),
        "intermediate_size": positive_integer(meta, f"{name}.feed_forward_length", source),
        "rms_norm_eps": positive_number(meta, f"{name}.attention.layer_norm_rms_epsilon", source),
        "rope_theta": theta,
        "rope_scaling": _llama3_scaling(file, theta, head_size) if ROPE_FACTORS in file.tensors else None,
    }


def _llama_metadata(config: LlamaConfig) -> dict[str, int | float]:
    return {
        "context_length": config.context_length,
        "embedding_length": config.n_embd,
        "block_count": config.n_layer,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.n_head,
        "attention.head_count_kv": config.n_kv_head,
        "attention.key_length": config.head_size,
        "attention.value_length": config.head_size,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.dimension_count": config.head_size,
        "rope.freq_base": config.rotary.theta,
        "vocab_size": config.vocab_size,
    }


def _llama_sizes(config: LlamaConfig) -> dict[str, int]:
    return {
        "vocab": config.vocab_size,
        "width": config.n_embd,
        "queries": config.n_head * config.head_size,
        "keys": config.n_kv_head * config.head_size,
        "head": config.head_size,
        "mlp": config.intermediate_size,
    }


def _llama_places(*, permuted: bool = False, qkv_bias: bool = False, qk_norm: bool = False) -> dict[str, Place]:
    layer, attention = "model.layers.{}", "model.layers.{}.self_attn"
    projections = {"q": ("queries", permuted), "k": ("keys", permuted), "v": ("keys", False)}
    weights = {
        f"blk.{{}}.attn_{p}.weight": Place(f"{attention}.{p}_proj.weight", (rows, "width"), turned)
        for p, (rows, turned) in projections.items()
    }
    biases = {
        f"blk.{{}}.attn_{p}.bias": Place(f"{attention}.{p}_proj.bias", (rows,))
        for p, (rows, _) in projections.items()
        if qkv_bias
    }
    norms = {
        f"blk.{{}}.attn_{p}_norm.weight": Place(f"{attention}.{p}_norm.weight", ("head",)) for p in "qk" if qk_norm
    }
    return {
        EMBEDDING: Place("model.embed_tokens.weight", ("vocab", "width")),
        "blk.{}.attn_norm.weight": Place(f"{layer}.input_layernorm.weight", ("width",)),
        **weights,
        **biases,
        **norms,
        "blk.{}.attn_output.weight": Place(f"{attention}.o_proj.weight", ("width", "queries")),
        "blk.{}.ffn_norm.weight": Place(f"{layer}.post_attention_layernorm.weight", ("width",)),
        "blk.{}.ffn_gate.weight": Place(f"{layer}.mlp.gate_proj.weight", ("mlp", "width")),
        "blk.{}.ffn_up.weight": Place(f"{layer}.mlp.up_proj.weight", ("mlp", "width")),
        "blk.{}.ffn_down.weight": Place(f"{layer}.mlp.down_proj.weight", ("width", "mlp")),
        "output_norm.weight": Place("model.norm.weight", ("width",)),
        HEAD: Place("lm_head.weight", ("vocab", "width")),
    }


def _llama3_scaling(file: GgufFile, theta: float, head_size: int) -> dict[str, Any]:
    """Return the scaling behind the factors by which a file's frequencies are divided.

    GGUF has the factors alone. Published models have Llama 3.1's settings but for the largest factor and the context
    that they were trained with; factors that no such settings give are a UserError.
    """
    stored = file.tensors[ROPE_FACTORS]
    if stored.shape != (head_size // 2,):
        rule = f"{ROPE_FACTORS} must have shape ({head_size // 2},)"
        raise UserError(f"{file.path}: {rule}, got {stored.shape}; give another model")
    factors = next(file.rows(stored))[1][0]
    for original_context in (8192, *(2**power for power in range(4, 24))):
        scaling = Llama3Scaling(float(factors.max()), 1.0, 4.0, original_context)
        if scaling.factor >= 1 and np.allclose(rope_factors(theta, scaling, head_size), factors, rtol=1e-5, atol=0):
            return {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": original_context,
            }
    raise UserError(f"{file.path}: {ROPE_FACTORS} must be those of Llama 3's scaling; give another model")


def rope_factors(theta: float, scaling: Llama3Scaling, head_size: int) -> np.ndarray:
    """Return the numbers by which a scaling divides the frequencies: (D / 2,)."""
    frequencies = theta ** -(np.arange(0, head_size, 2) / head_size)
    return np.asarray(frequencies / scaling.slowed(frequencies), dtype=np.float32)


# ---- GPT-2


def _gpt2_values(file: GgufFile, name: str) -> dict[str, Any]:
    meta, source = file.metadata, str(file.path)
    return {
        "n_positions": positive_integer(meta, f"{name}.context_length", source),
        "n_embd": positive_integer(meta, f"{name}.embedding_length", source),
        "n_layer": positive_integer(meta, f"{name}.block_count", source),
        "n_head": positive_integer(meta, f"{name}.attention.head_count", source),
        "n_inner": positive_integer(meta, f"{name}.feed_forward_length", source),
        "layer_norm_epsilon": positive_number(meta, f"{name}.attention.layer_norm_epsilon", source),
        "resid_pdrop": 0.0,
    }


def _gpt2_metadata(config: GPT2Config) -> dict[str, int | float]:
    return {
        "context_length": config.context_length,
        "embedding_length": config.n_embd,
        "block_count": config.n_layer,
        "feed_forward_length": 4 * config.n_embd,
        "attention.head_count": config.n_head,
        "attention.layer_norm_epsilon": 1e-5,
    }


def _gpt2_sizes(config: GPT2Config) -> dict[str, int]:
    width = config.n_embd
    return {
        "vocab": config.vocab_size,
        "context": config.context_length,
        "width": width,
        "qkv": 3 * width,
        "mlp": 4 * width,
    }


def _gpt2_places() -> dict[str, Place]:
    block = "transformer.h.{}"
    parts = {
        "blk.{}.attn_norm": (f"{block}.ln_1", ("width",)),
        "blk.{}.attn_qkv": (f"{block}.attn.c_attn", ("qkv", "width")),
        "blk.{}.attn_output": (f"{block}.attn.c_proj", ("width", "width")),
        "blk.{}.ffn_norm": (f"{block}.ln_2", ("width",)),
        "blk.{}.ffn_up": (f"{block}.mlp.c_fc", ("mlp", "width")),
        "blk.{}.ffn_down": (f"{block}.mlp.c_proj", ("width", "mlp")),
        "output_norm": ("transformer.ln_f", ("width",)),
    }
    places = {
        EMBEDDING: Place("transformer.wte.weight", ("vocab", "width")),
        "position_embd.weight": Place("transformer.wpe.weight", ("context", "width")),
    }
    for name, (ours, shape) in parts.items():
        places[f"{name}.weight"] = Place(f"{ours}.weight", shape)
        places[f"{name}.bias"] = Place(f"{ours}.bias", shape[:1])
    return {**places, HEAD: Place("lm_head.weight", ("vocab", "width"))}


_LLAMA_KEYS = frozenset(
    "context_length embedding_length block_count feed_forward_length attention.head_count attention.head_count_kv "
    "attention.key_length attention.value_length attention.layer_norm_rms_epsilon rope.dimension_count "
    "rope.freq_base".split()
)
_GPT2_KEYS = frozenset(
    "context_length embedding_length block_count feed_forward_length attention.head_count "
    "attention.layer_norm_epsilon".split()
)
_LLAMA = (_llama_values, _llama_metadata, _llama_sizes)

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("gpt2", ("gpt2",), _GPT2_KEYS, _gpt2_places(), _gpt2_values, _gpt2_metadata, _gpt2_sizes),
        Family("llama", ("llama", "mistral"), _LLAMA_KEYS, _llama_places(permuted=True), *_LLAMA),
        Family("qwen2", ("qwen2",), _LLAMA_KEYS, _llama_places(qkv_bias=True), *_LLAMA),
        Family("qwen3", ("qwen3",), _LLAMA_KEYS, _llama_places(qk_norm=True), *_LLAMA),
    )
}
