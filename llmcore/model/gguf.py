"""A model out of a GGUF file, such as llama.cpp and Ollama use: every tensor in fp32, in memory for one copy."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.model.gguf_family import Place, config_of, family_of, rotary_order
from llmcore.model.gguf_file import GgufFile, GgufTensor, read_header
from llmcore.model.registry import architecture
from llmcore.model.transformer import LanguageModel, ModelConfig


def load_gguf(path: str | Path, dropout: float | None = None) -> LanguageModel:
    """Read a language model, in fp32 and evaluation mode; quantised weights become the numbers that they stand for.

    `dropout`, if given, is used in training; otherwise there is none. UserError for a file that is damaged or not
    complete, or a model that is not computed here.
    """
    file = read_header(path)
    config = replace(config_of(file), dropout=dropout or 0.0)
    places = places_of(file, config)
    entry = architecture(config.model_type)
    with torch.device("meta"):  # shapes without memory: the file's tensors become the parameters
        model = entry.new_model(config)
    state = {place.name: _read_tensor(file, file.tensors[name], place, config) for name, place in places.items()}
    if config.tied_head:
        state["lm_head.weight"] = state[entry.tied_to]
    model.load_state_dict(state, assign=True)
    model.tie()
    model.folder = str(path)
    return model.eval()


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the keys and values of a GGUF file: settings, vocabulary, chat template."""
    return read_header(path).metadata


def places_of(file: GgufFile, config: ModelConfig) -> dict[str, Place]:
    """Return the place of each tensor in the model; UserError for one that is missing, surplus or of another shape.

    All is compared before a model is built, whatever sizes the file claims.
    """
    layers = {found[1] for name in file.tensors if (found := re.match(r"blk\.(\d+)\.", name))}
    if len(layers) != config.n_layer:
        rule = f"block_count must be the number of layers in the file ({len(layers)})"
        raise UserError(f"{file.path}: {rule}, got {config.n_layer}; give a complete file")
    family = family_of(file)
    expected = family.tensors(config)
    for name, (_, shape) in expected.items():
        if name not in file.tensors:
            raise UserError(f"{file.path}: {name} {shape} is missing; the weights are not complete")
        if (found_shape := file.tensors[name].shape) != shape:
            raise UserError(f"{file.path}: {name} must have shape {shape}, got {found_shape}; give another file")
    if surplus := sorted(file.tensors.keys() - expected.keys() - family.other_tensors):
        raise UserError(f"{file.path}: {surplus[0][:80]!r} belongs to no part of this model; give another file")
    return {name: place for name, (place, _) in expected.items()}


def _read_tensor(file: GgufFile, stored: GgufTensor, place: Place, config: ModelConfig) -> Tensor:
    """Return a tensor's numbers in Hugging Face's order of rows."""
    found = torch.empty(stored.shape)
    rows = found.view(-1, stored.shape[-1])
    order = rotary_order(len(rows), config.key_value_shape[1]) if place.is_permuted else None
    for first, numbers in file.rows(stored):
        part = slice(first, first + len(numbers))
        rows[part if order is None else order[part]] = torch.from_numpy(numbers)
    return found
