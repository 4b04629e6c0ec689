"""GPT-2's published form and ours: one table of tensors and one of settings, used in both directions.

Our parameter names are GPT-2's. Checkpoints come with or without the `transformer.` prefix, some with
the attention mask stored as a weight.
"""

import re
from typing import Any

from torch import Tensor

from llmcore.errors import UserError
from llmcore.model.gpt import GPTConfig

# Every tensor there is, `{}` for the number of a layer: is it stored transposed? GPT-2's linear layers
# keep their weights as (in, out), torch's as (out, in).
TENSORS = {
    "transformer.wte.weight": False,
    "transformer.wpe.weight": False,
    "transformer.h.{}.ln_1.weight": False,
    "transformer.h.{}.ln_1.bias": False,
    "transformer.h.{}.attn.c_attn.weight": True,
    "transformer.h.{}.attn.c_attn.bias": False,
    "transformer.h.{}.attn.c_proj.weight": True,
    "transformer.h.{}.attn.c_proj.bias": False,
    "transformer.h.{}.ln_2.weight": False,
    "transformer.h.{}.ln_2.bias": False,
    "transformer.h.{}.mlp.c_fc.weight": True,
    "transformer.h.{}.mlp.c_fc.bias": False,
    "transformer.h.{}.mlp.c_proj.weight": True,
    "transformer.h.{}.mlp.c_proj.bias": False,
    "transformer.ln_f.weight": False,
    "transformer.ln_f.bias": False,
    "lm_head.weight": False,  # of a language model; absent where it is the token embedding
    "score.weight": False,  # of a classifier
}
MASKS = {"transformer.h.{}.attn.bias", "transformer.h.{}.attn.masked_bias"}  # stored by some, no weights

# settings of other GPT-2 variants that this model does not compute: key -> the values it does
COMPUTED = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def our_name(key: str) -> str | None:
    """Return our name of a checkpoint's key; None for a stored attention mask. An unknown key stays as it is."""
    prefixed = f"transformer.{key}"
    if _row(key) in MASKS or _row(prefixed) in MASKS:
        return None
    return prefixed if _row(prefixed) in TENSORS else key


def transposed(name: str, tensor: Tensor) -> Tensor:
    """Turn a tensor from GPT-2's orientation to ours, or back: the same step both ways."""
    return tensor.t() if TENSORS[_row(name)] else tensor


def stored_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which GPT-2's form stores our parameter `name` of `shape`."""
    return shape[::-1] if TENSORS[_row(name)] else shape


def _row(name: str) -> str:
    """Return the table's key of a name: `transformer.h.11.ln_1.bias -> transformer.h.{}.ln_1.bias`."""
    return re.sub(r"\.h\.\d+\.", ".h.{}.", name)


def config_to_gpt2(config: GPTConfig, end_of_text: int) -> dict[str, Any]:
    """Return `config.json` as transformers reads it, with `qkv_bias` beside."""
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


def config_from_gpt2(values: Any, source: str) -> GPTConfig:
    """Read `config.json`'s values; a model of another kind is a UserError that names the key."""
    if not isinstance(values, dict):
        raise UserError(f"{source}: must be a JSON object, got {type(values).__name__}; restore the file")
    if values.get("model_type") != "gpt2":
        found = values.get("model_type")
        raise UserError(f"{source}: model_type must be 'gpt2', got {found!r}; give a GPT-2 model folder")
    for key, known in COMPUTED.items():
        if (value := values.get(key, known[0])) not in known:
            raise UserError(f"{source}: {key} must be {known[0]!r}, got {value!r}; give a GPT-2 model folder")
    for key in ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd"):
        if type(value := values.get(key)) is not int or value <= 0:  # a bool is an int, too
            raise UserError(f"{source}: {key} must be a positive integer, got {value!r}; restore the file")
    for key in ("qkv_bias", "tie_word_embeddings"):
        if type(value := values.get(key, True)) is not bool:
            raise UserError(f"{source}: {key} must be true or false, got {value!r}; restore the file")
    config = GPTConfig(
        vocab_size=values["vocab_size"],
        context_length=values["n_positions"],
        n_layer=values["n_layer"],
        n_head=values["n_head"],
        n_embd=values["n_embd"],
        dropout=values.get("resid_pdrop", 0.1),  # one number for all three of GPT-2's, which configs may leave out
        qkv_bias=values.get("qkv_bias", True),
        tied_head=values.get("tie_word_embeddings", True),
    )
    if type(config.dropout) not in (int, float) or not 0 <= config.dropout < 1:
        raise UserError(f"{source}: resid_pdrop must be a number from 0 to below 1, got {config.dropout!r}; correct it")
    if config.n_embd % config.n_head:
        rule = f"n_embd must be a multiple of n_head ({config.n_head})"
        raise UserError(f"{source}: {rule}, got {config.n_embd}; restore the file")
    if values.get("n_inner") not in (None, 4 * config.n_embd):
        raise UserError(f"{source}: n_inner must be 4 n_embd, got {values['n_inner']!r}; give a GPT-2 model folder")
    return config
