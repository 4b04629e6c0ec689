"""A language model as a GGUF file, for llama.cpp, Ollama and what is built on them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFValueType, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGML_QUANT_VERSION, GGMLQuantizationType, LlamaFileType
from gguf.quants import quantize
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.base.files import user_errors, writing
from llmcore.base.progress import Bar
from llmcore.model.gguf_family import ROPE_FACTORS, Place, family_for, rope_factors, rotary_order
from llmcore.model.llama import LlamaConfig
from llmcore.model.transformer import LanguageModel, ModelConfig

FILE_TYPES = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
MAX_F16 = float(np.finfo(np.float16).max)
ALWAYS_F32 = ("position_embd.weight", ROPE_FACTORS)  # as llama.cpp converts them
BAR_FROM_PARAMETERS = 10_000_000  # smaller models are written in a second


def write_gguf(path: str | Path, model: LanguageModel, file_type: str, metadata: Mapping[str, Any]) -> list[str]:
    """Write a model atomically with its weights as `file_type`, one of FILE_TYPES; norms and biases stay fp32.

    `metadata` is written beside the settings: vocabulary, chat template, name. Return the names of the tensors whose
    rows are not whole blocks of the type, which are written as F16, as llama.cpp does.
    """
    tensors = _tensors(model)
    kind, number = FILE_TYPES[file_type]
    kinds = {name: _type_of(name, tensor, kind) for name, (tensor, _) in tensors.items()}
    with writing(Path(path)) as temporary, user_errors(path):
        writer = GGUFWriter(temporary, family_for(model.config).name)
        try:
            _add_metadata(writer, model.config, {**metadata, "general.file_type": int(number)})
            for name, (tensor, _) in tensors.items():
                block, block_bytes = GGML_QUANT_SIZES[kinds[name]]
                n_bytes = tensor.numel() // block * block_bytes
                writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), n_bytes, kinds[name])
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            shown = sum(tensor.numel() for tensor, _ in tensors.values()) >= BAR_FROM_PARAMETERS
            with Bar("write", len(tensors), " tensors", enabled=shown) as bar:
                for name, (tensor, place) in tensors.items():
                    writer.write_tensor_data(_encoded(name, tensor, place, model.config, kinds[name]))
                    bar.advance()
        finally:
            writer.close()
    return [name for name, used in kinds.items() if used not in (kind, GGMLQuantizationType.F32)]


def _tensors(model: LanguageModel) -> dict[str, tuple[Tensor, Place | None]]:
    """Return each tensor of the file in our order of rows, with its place if it is a weight."""
    config, state = model.config, model.state_dict()
    family = family_for(config)
    found: dict[str, tuple[Tensor, Place | None]] = {}
    for name, (place, shape) in family.tensors(config).items():  # GPT-2's form has biases that a model may lack
        tensor = state[place.name] if place.name in state else next(iter(state.values())).new_zeros(shape)
        found[name] = tensor, place
    if isinstance(config, LlamaConfig) and (scaling := config.rotary.scaling):
        if ROPE_FACTORS not in family.other_tensors:
            rule = f"rope_scaling of a {config.model_type} model is not computed by llama.cpp"
            raise UserError(f"{model.folder}: {rule}; export another model")
        factors = rope_factors(config.rotary.theta, scaling, config.head_size)
        found[ROPE_FACTORS] = Tensor(factors), None
    return found


def _type_of(name: str, tensor: Tensor, wanted: GGMLQuantizationType) -> GGMLQuantizationType:
    if tensor.dim() == 1 or name in ALWAYS_F32:
        return GGMLQuantizationType.F32
    return wanted if tensor.shape[-1] % GGML_QUANT_SIZES[wanted][0] == 0 else GGMLQuantizationType.F16


def _add_metadata(writer: GGUFWriter, config: ModelConfig, metadata: Mapping[str, Any]) -> None:
    """Add settings and metadata, each in the type that llama.cpp reads; empty lists and texts are left out."""
    family = family_for(config)
    settings = {f"{family.name}.{key}": value for key, value in family.metadata_of(config).items()}
    for key, value in {**settings, "general.quantization_version": GGML_QUANT_VERSION, **metadata}.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            kinds = {bool: GGUFValueType.BOOL, int: GGUFValueType.UINT32, float: GGUFValueType.FLOAT32}
            writer.add_key_value(key, value, kinds[type(value)])


def _encoded(
    name: str, tensor: Tensor, place: Place | None, config: ModelConfig, kind: GGMLQuantizationType
) -> np.ndarray:
    """Return a tensor's bytes, its rows in llama.cpp's order."""
    numbers = tensor.detach().float().cpu()
    if place is not None and place.is_permuted:
        numbers = numbers[rotary_order(len(numbers), config.key_value_shape[1])]
    array = numbers.contiguous().numpy()
    if kind.name in ("F16", "Q8_0") and max(array.max(), -array.min()) > MAX_F16:
        raise UserError(f"{name}: must be at most {MAX_F16:,.0f} for {kind.name}; write --type bf16 or f32")
    return np.asarray(quantize(array, kind))
