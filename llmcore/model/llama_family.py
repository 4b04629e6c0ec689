"""The models that llama.py computes, as Hugging Face stores them: Llama, Mistral, Qwen2, Qwen3.

A setting in a config.json that is not computed is an error that names it. Older files give `rope_theta` and
`rope_scaling`, newer ones `rope_parameters`; the older form is written, which all readers know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from llmcore.base.errors import UserError
from llmcore.model.architecture import Architecture, StoredTensor
from llmcore.model.config_json import check_computed, flag, positive_integer, positive_number
from llmcore.model.llama import LlamaConfig, LlamaTransformer
from llmcore.model.rotary import Llama3Scaling, Rotary
from llmcore.model.transformer import ModelConfig


@dataclass(frozen=True)
class MistralConfig(LlamaConfig):
    model_type: ClassVar[str] = "mistral"


@dataclass(frozen=True)
class Qwen2Config(LlamaConfig):
    model_type: ClassVar[str] = "qwen2"


@dataclass(frozen=True)
class Qwen3Config(LlamaConfig):
    model_type: ClassVar[str] = "qwen3"


NORM_EPS = 1e-5  # of a model that is pretrained here
DEFAULT_THETA = 10_000.0  # where config.json gives none, as Llama 2's
DEFAULT_SLIDING_WINDOW = 4096  # Mistral's, where its config.json does not say null
# settings that are not computed, for all: key -> the values that are
COMPUTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),  # it means a bias in the output projection, too
    "mlp_bias": (False,),
    "partial_rotary_factor": (1.0,),
    "pretraining_tp": (1,),
    "use_sliding_window": (False,),
    "quantization_config": (None,),
}
FULL_ATTENTION = "full_attention"


def config_from_json(kind: type[LlamaConfig], values: Mapping[str, Any], source: str) -> LlamaConfig:
    """Read the values of `config.json`."""
    check_computed(values, COMPUTED, source)
    if kind is MistralConfig:
        check_computed({"sliding_window": DEFAULT_SLIDING_WINDOW, **values}, {"sliding_window": (None,)}, source)
    kinds = values.get("layer_types") or []
    if odd := [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind != FULL_ATTENTION]:
        raise UserError(f"{source}: layer_types must be {FULL_ATTENTION!r}, got {odd[0]!r}; give another model")
    n_embd = positive_integer(values, "hidden_size", source)
    n_head = positive_integer(values, "num_attention_heads", source)
    given_size = values.get("head_dim") is not None or kind is Qwen3Config
    dropout = values.get("attention_dropout", 0.0)
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise UserError(f"{source}: attention_dropout must be a number from 0 to below 1, got {dropout!r}; correct it")
    config = kind(
        vocab_size=positive_integer(values, "vocab_size", source),
        context_length=positive_integer(values, "max_position_embeddings", source),
        n_layer=positive_integer(values, "num_hidden_layers", source),
        n_head=n_head,
        n_kv_head=positive_integer({"num_key_value_heads": n_head, **values}, "num_key_value_heads", source),
        n_embd=n_embd,
        head_size=positive_integer(values, "head_dim", source) if given_size else n_embd // n_head,
        intermediate_size=positive_integer(values, "intermediate_size", source),
        norm_eps=positive_number(values, "rms_norm_eps", source),
        rotary=_rotary(values, source),
        dropout=dropout,
        tied_head=flag(values, "tie_word_embeddings", source, default=False),
        qkv_bias=kind is Qwen2Config,
        qk_norm=kind is Qwen3Config,
    )
    if n_head % config.n_kv_head:
        rule = f"num_attention_heads must be a multiple of num_key_value_heads ({config.n_kv_head}), got {n_head}"
        raise UserError(f"{source}: {rule}; restore the file")
    if config.head_size % 2 or (not given_size and n_embd % n_head):
        rule = f"hidden_size must give each of {n_head} heads an even number of features"
        raise UserError(f"{source}: {rule}, got {n_embd}; restore the file")
    return config


def config_from_params(values: Mapping[str, Any], vocab_size: int) -> LlamaConfig:
    """Return the config of a model that is pretrained here."""
    keys = ("context_length", "n_layer", "n_head", "n_embd", "dropout", "tied_head", "n_kv_head", "intermediate_size")
    return LlamaConfig(
        vocab_size=vocab_size,
        head_size=values["n_embd"] // values["n_head"],
        norm_eps=NORM_EPS,
        rotary=Rotary(values["rope_theta"]),
        **{key: values[key] for key in keys},
    )


def _rotary(values: Mapping[str, Any], source: str) -> Rotary:
    """Read the rotary positions, in the older or the newer form."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
    if kind not in ("default", "llama3"):
        raise UserError(f"{source}: rope_type must be 'default' or 'llama3', got {kind!r}; give another model")
    check_computed({"model_type": values["model_type"], **rope}, {"partial_rotary_factor": (1.0,)}, source)
    theta = positive_number({"rope_theta": values.get("rope_theta", DEFAULT_THETA), **rope}, "rope_theta", source)
    if kind == "default":
        return Rotary(theta)
    scaling = Llama3Scaling(
        factor=positive_number(rope, "factor", source),
        low_freq_factor=positive_number(rope, "low_freq_factor", source),
        high_freq_factor=positive_number(rope, "high_freq_factor", source),
        original_context_length=positive_integer(rope, "original_max_position_embeddings", source),
    )
    if scaling.low_freq_factor >= scaling.high_freq_factor:
        rule = f"high_freq_factor must be above low_freq_factor ({scaling.low_freq_factor})"
        raise UserError(f"{source}: {rule}, got {scaling.high_freq_factor}; restore the file")
    return Rotary(theta, scaling)


def config_to_json(config: ModelConfig, end_of_text: int) -> dict[str, Any]:
    """Return `config.json` as transformers reads it."""
    assert isinstance(config, LlamaConfig)
    scaling = config.rotary.scaling
    return {
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "hidden_size": config.n_embd,
        "head_dim": config.head_size,
        "intermediate_size": config.intermediate_size,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rotary.theta,
        "rope_scaling": None
        if scaling is None
        else {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context_length,
        },
        "attention_dropout": config.dropout,
        "initializer_range": 0.02,
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "pad_token_id": end_of_text,
        "dtype": "float32",
        **({"sliding_window": None} if isinstance(config, MistralConfig) else {}),
        **({"use_sliding_window": False} if isinstance(config, Qwen2Config | Qwen3Config) else {}),
    }


def _family_member(config: type[LlamaConfig], class_prefix: str, extra: tuple[str, ...] = ()) -> Architecture:
    """Return the entry of one member; `extra` are the tensors of its attention that Llama has not."""
    attention = [*(f"{name}_proj.weight" for name in "qkvo"), *extra]
    mlp = ("gate_proj.weight", "up_proj.weight", "down_proj.weight")
    tensors = {
        "model.embed_tokens.weight": StoredTensor("token embedding"),
        **{f"model.layers.{{}}.self_attn.{name}": StoredTensor("attention") for name in attention},
        **{f"model.layers.{{}}.mlp.{name}": StoredTensor("MLP") for name in mlp},
        "model.layers.{}.input_layernorm.weight": StoredTensor("norms"),
        "model.layers.{}.post_attention_layernorm.weight": StoredTensor("norms"),
        "model.norm.weight": StoredTensor("norms"),
        "lm_head.weight": StoredTensor("head"),
        "score.weight": StoredTensor("head"),
    }
    return Architecture(
        config=config,
        transformer=LlamaTransformer,
        language_model=f"{class_prefix}ForCausalLM",
        classifier=f"{class_prefix}ForSequenceClassification",
        config_to_json=config_to_json,
        config_from_json=lambda values, source: config_from_json(config, values, source),
        config_from_params=config_from_params,
        tensors=tensors,
        tied_to="model.embed_tokens.weight",
        layer_pattern=r"\.layers\.\d+\.",
        lora_targets=(
            *(f"self_attn.{name}_proj" for name in "qkvo"),
            *(f"mlp.{name.removesuffix('.weight')}" for name in mlp),
        ),
        # computed from the config; some checkpoints store it
        ignored_tensors=frozenset({"model.layers.{}.self_attn.rotary_emb.inv_freq"}),
    )


ARCHITECTURES = (
    _family_member(LlamaConfig, "Llama"),
    _family_member(MistralConfig, "Mistral"),
    _family_member(Qwen2Config, "Qwen2", ("q_proj.bias", "k_proj.bias", "v_proj.bias")),
    _family_member(Qwen3Config, "Qwen3", ("q_norm.weight", "k_norm.weight")),
)
