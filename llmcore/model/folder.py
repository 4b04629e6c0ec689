"""Model folders in Hugging Face's layout, read and written: the same files that transformers opens.

A folder holds `config.json`, `model.safetensors`, the tokenizer's `tokenizer.json`, or its `vocab.json` and
`merges.txt`, `tokenizer_config.json` and, with a chat template, `generation_config.json`. Where this pipeline wrote
it, `origin.json` holds the params and the hashes of the data that shaped it. No pickle is read or written.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.base.files import fresh_folder, read_json, sha256_file, sha256_files, write_json
from llmcore.base.text import is_label
from llmcore.model.architecture import Architecture
from llmcore.model.classifier import POOLINGS, SequenceClassifier
from llmcore.model.gguf_path import find_gguf
from llmcore.model.registry import architecture
from llmcore.model.transformer import LanguageModel, ModelConfig
from llmcore.model.weights import check_sizes, read_headers, read_weights, weight_files, write_weights

READ_FILES = (  # beside the weights
    "config.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


class SavedTokenizer(Protocol):
    """What a model folder asks of a tokenizer."""

    @property
    def bos_id(self) -> int | None: ...

    @property
    def end_of_text(self) -> int: ...

    @property
    def pad_id(self) -> int: ...

    def save_for_transformers(self, folder: str | Path, context_length: int) -> None: ...


def load_language_model(folder: str | Path, dropout: float | None = None) -> LanguageModel:
    """Read a language model, in fp32 and evaluation mode; every key and shape must fit its config.

    `dropout`, if given, is used in training in place of the config's.
    """
    entry, config, _ = read_config(folder)
    if dropout is not None:
        config = replace(config, dropout=dropout)
    headers = read_headers(folder)
    check_sizes(folder, headers, entry, config)
    with torch.device("meta"):  # shapes without memory: the file's tensors become the parameters
        model = entry.new_model(config)
    tied = {"lm_head.weight": entry.tied_to} if config.tied_head else {}
    model.load_state_dict(read_weights(folder, headers, entry, config, shapes_of(model), tied), assign=True)
    model.tie()
    model.folder = str(folder)
    return model.eval()


def save_language_model(
    folder: str | Path,
    model: LanguageModel,
    state: Mapping[str, Tensor] | None = None,
    *,
    tokenizer: SavedTokenizer,
    origin: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a language model's folder whole; `state` is the model's, without low-rank updates.

    `extra` are keys of config.json that transformers does not know and keeps.
    """
    entry = architecture(model.config.model_type)
    values = {"architectures": [entry.language_model], **(extra or {})}
    state = model.state_dict() if state is None else state
    _write_folder(folder, entry, model.config, state, values, tokenizer=tokenizer, origin=origin)


def load_classifier(folder: str | Path) -> SequenceClassifier:
    """Read a classifier, in fp32 and evaluation mode."""
    entry, config, values = read_config(folder)
    labels = class_names(values)
    if labels is None:
        raise UserError(f"{folder}/config.json: id2label must name the classes; give a classifier's folder")
    pooling = values.get("pooling", POOLINGS[0])
    if pooling not in POOLINGS:
        raise UserError(f"{folder}/config.json: pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
    max_tokens = values.get("max_tokens", config.context_length)
    if type(max_tokens) is not int or not 0 < max_tokens <= config.context_length:
        rule = f"max_tokens must be an integer from 1 to n_positions ({config.context_length}), got {max_tokens!r}"
        raise UserError(f"{folder}/config.json: {rule}; correct it")
    headers = read_headers(folder)
    check_sizes(folder, headers, entry, config)
    with torch.device("meta"):
        model = SequenceClassifier(entry.transformer(config), labels, pooling, max_tokens)
    model.load_state_dict(read_weights(folder, headers, entry, config, shapes_of(model), tied={}), assign=True)
    model.folder = str(folder)
    return model.eval()


def save_classifier(
    folder: str | Path,
    model: SequenceClassifier,
    state: Mapping[str, Tensor],
    *,
    tokenizer: SavedTokenizer,
    origin: Mapping[str, Any],
) -> None:
    """Write a classifier's folder whole; `state` is the model's, without low-rank updates.

    transformers knows only the pooling `last_real`; config.json names the other one.
    """
    entry = architecture(model.config.model_type)
    values = {
        "architectures": [entry.classifier],
        "id2label": {str(index): label for index, label in enumerate(model.labels)},
        "label2id": {label: index for index, label in enumerate(model.labels)},
        "problem_type": "single_label_classification",
        "pooling": model.pooling,
        "max_tokens": model.max_tokens,
    }
    _write_folder(folder, entry, model.config, state, values, tokenizer=tokenizer, origin=origin)


def read_config(folder: str | Path) -> tuple[Architecture, ModelConfig, dict[str, Any]]:
    """Return the architecture, the model's config and all values of `config.json`; UserError for an unknown one."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model folder; run `dvc repro` to build it, or correct the path")
    source = str(folder / "config.json")
    values = read_json(source)
    if not isinstance(values, dict):
        raise UserError(f"{source}: must be a JSON object, got {type(values).__name__}; restore the file")
    entry = architecture(values.get("model_type"), source)
    return entry, entry.config_from_json(values, source), values


def is_classifier(entry: Architecture, values: Mapping[str, Any]) -> bool:
    """Return whether the values of a config.json are a classifier's."""
    named = values.get("architectures")
    return isinstance(named, list) and entry.classifier in named


def class_names(values: Mapping[str, Any]) -> list[str] | None:
    """Return a classifier's classes in order: config.json's `id2label`; None if it is not one name for each class."""
    names = values.get("id2label")
    if not isinstance(names, dict) or not all(isinstance(name, str) and is_label(name) for name in names.values()):
        return None
    numbers = [str(index) for index in range(len(names))]
    if not names or names.keys() != set(numbers) or len(set(names.values())) < len(names):
        return None
    return [names[number] for number in numbers]


def shapes_of(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def fingerprint(folder: str | Path) -> str:
    """Return the SHA-256 of what a model folder computes: config, weights and tokenizer, without its origin.

    Of a GGUF file, which has all three, it is that of the file.
    """
    if file := find_gguf(folder):
        return sha256_file(file)
    folder = Path(folder)
    return sha256_files([folder / name for name in READ_FILES if (folder / name).is_file()] + weight_files(folder))


def _write_folder(
    folder: str | Path,
    entry: Architecture,
    config: ModelConfig,
    state: Mapping[str, Tensor],
    extra: Mapping[str, Any],
    *,
    tokenizer: SavedTokenizer,
    origin: Mapping[str, Any],
) -> None:
    """Write config, weights, tokenizer and origin into a folder made empty first."""
    folder = fresh_folder(folder)
    values = entry.config_to_json(config, tokenizer.end_of_text)
    values |= {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.end_of_text}
    write_json(folder / "config.json", {**values, "pad_token_id": tokenizer.pad_id, **extra})
    write_weights(folder, state, entry, config)
    tokenizer.save_for_transformers(folder, config.context_length)
    write_json(folder / "origin.json", dict(origin))
