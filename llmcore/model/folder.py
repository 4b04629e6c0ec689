"""Model folders in Hugging Face's GPT-2 layout, read and written: the same files transformers opens.

A folder holds `config.json`, `model.safetensors`, the tokenizer's `vocab.json`, `merges.txt` and
`tokenizer_config.json`, and, where this pipeline wrote it, `origin.json` (the params and the hashes
of the data that shaped it) and a model card. No pickle is read or written.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmcore.errors import UserError
from llmcore.files import fresh_folder, read_json, sha256_files, user_errors, write_json, write_text, writing
from llmcore.model.gpt import GPT, GPTConfig
from llmcore.model.gpt2_format import config_from_gpt2, config_to_gpt2, our_name, stored_shape, transposed

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def load_gpt(folder: str | Path, dropout: float | None = None) -> GPT:
    """Read a language model, in fp32 and evaluation mode; every key and shape must fit its config.

    `dropout`, if given, is used in training in place of the config's.
    """
    config, _ = read_config(folder)
    if dropout is not None:
        config = replace(config, dropout=dropout)
    with torch.device("meta"):  # shapes without memory: the file's tensors become the parameters
        model = GPT(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tied = {"lm_head.weight": "transformer.wte.weight"} if config.tied_head else {}
    model.load_state_dict(read_weights(folder, config, shapes, tied), assign=True)
    model.tie()
    return model.eval()


def save_gpt(
    folder: str | Path,
    config: GPTConfig,
    state: Mapping[str, Tensor],
    *,
    tokenizer: "SavedTokenizer",
    origin: Mapping[str, Any],
    card: str,
    values: Mapping[str, Any] | None = None,
) -> None:
    """Write a language model's folder whole; `state` has our names, without low-rank updates.

    `values` are what config.json says besides, under keys that transformers does not know and keeps.
    """
    written = config_to_gpt2(config, tokenizer.end_of_text) | {"architectures": ["GPT2LMHeadModel"], **(values or {})}
    write_folder(folder, config, state, written, tokenizer=tokenizer, origin=origin, card=card)


def write_folder(
    folder: str | Path,
    config: GPTConfig,
    state: Mapping[str, Tensor],
    values: Mapping[str, Any],
    *,
    tokenizer: "SavedTokenizer",
    origin: Mapping[str, Any],
    card: str,
) -> None:
    """Write config (`values`), weights, tokenizer, origin and card into a folder made empty first."""
    folder = fresh_folder(folder)
    write_json(folder / "config.json", dict(values))
    write_weights(folder, state, config)
    tokenizer.save_for_transformers(folder, config.context_length)
    write_json(folder / "origin.json", dict(origin))
    write_text(folder / "README.md", card)


class SavedTokenizer(Protocol):
    """What a model folder asks of a tokenizer."""

    @property
    def end_of_text(self) -> int: ...

    def save_for_transformers(self, folder: str | Path, context_length: int) -> None: ...


def read_config(folder: str | Path) -> tuple[GPTConfig, dict[str, Any]]:
    """Return the model's config and everything `config.json` says; another architecture is a UserError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model folder; run `dvc repro` to build it, or correct the path")
    values = read_json(folder / "config.json")
    return config_from_gpt2(values, str(folder / "config.json")), values


def read_weights(
    folder: str | Path,
    config: GPTConfig,
    shapes: Mapping[str, tuple[int, ...]],
    tied: Mapping[str, str],
) -> dict[str, Tensor]:
    """Return fp32 tensors under our names, exactly those in `shapes`; memory is needed for them alone.

    A missing or surplus tensor, a wrong shape or type, or a number that is not finite is a UserError
    that names it. `tied` maps a name that the file may leave out to the one whose tensor it shares.
    """
    folder, state = Path(folder), {}
    zero_bias = () if config.qkv_bias else tuple(f"transformer.h.{i}.attn.c_attn.bias" for i in range(config.n_layer))
    for file, key, tensor in _stored(folder):
        name = our_name(key)
        if name is None:
            continue
        if name in zero_bias:  # GPT-2's layout has this bias; a model without it stores zeros
            if tensor.any():
                raise UserError(f"{file}: {key} must be zero where config.json says qkv_bias false; correct either")
            continue
        if name not in shapes:
            found = f"{key} {tuple(tensor.shape)}"
            raise UserError(f"{file}: {found} belongs to no part of this model; check config.json beside it")
        if name in state:
            raise UserError(f"{file}: {key} is stored a second time, as {name}; remove one of the two")
        state[name] = _checked(file, key, tensor, name, shapes[name])
    for name, source in tied.items():
        if source in state and name in state and not torch.equal(state[name], state[source]):
            raise UserError(f"{folder}: {name} differs from {source}, to which config.json ties it; set it untied")
        if source in state:
            state[name] = state[source]
    if missing := sorted(shapes.keys() - state.keys()):
        raise UserError(f"{folder}: {missing[0]} {shapes[missing[0]]} is missing; the weights are not complete")
    return state


def write_weights(folder: str | Path, state: Mapping[str, Tensor], config: GPTConfig) -> None:
    """Write `state` (our names) in fp32 as `model.safetensors`; a tied head is stored once."""
    stored = {}
    for name, tensor in sorted(state.items()):
        if name == "lm_head.weight" and config.tied_head:
            continue
        stored[name] = transposed(name, tensor.detach()).to("cpu", torch.float32).contiguous()
    if not config.qkv_bias:
        for layer in range(config.n_layer):
            stored[f"transformer.h.{layer}.attn.c_attn.bias"] = torch.zeros(3 * config.n_embd)
    path = Path(folder) / WEIGHTS_FILE
    with writing(path) as temporary, user_errors(path):
        save_file(stored, temporary, metadata={"format": "pt"})


def _checked(file: Path, key: str, tensor: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    """Return a copy of one stored tensor in our orientation and fp32, or say what is wrong with it."""
    expected = stored_shape(name, shape)
    if tuple(tensor.shape) != expected:
        raise UserError(f"{file}: {key} must have shape {expected}, got {tuple(tensor.shape)}; check config.json")
    if tensor.dtype not in FLOATS:
        kinds = "float32, float16 or bfloat16"
        raise UserError(f"{file}: {key} must be {kinds}, got {tensor.dtype}; convert the weights")
    copy = torch.empty(shape).copy_(transposed(name, tensor))
    if not torch.stack(copy.aminmax()).isfinite().all():  # NaN is the least and the largest of any numbers
        raise UserError(f"{file}: {key} holds NaN or infinity; the weights are damaged, fetch them again")
    return copy


def _stored(folder: Path) -> Iterator[tuple[Path, str, Tensor]]:
    """Yield file, key and tensor of a folder's weights, one at a time.

    A tensor is a view of the mapped file. Each is mapped alone: pages that were read count as memory of
    this process until the mapping ends.
    """
    for file in weight_files(folder):
        with _opened(file) as opened:
            keys = list(opened.keys())
        for key in keys:
            with _opened(file) as opened:
                yield file, key, opened.get_tensor(key)


def _opened(file: Path) -> safe_open:
    """Map a weight file; one that is cut short or no safetensors is a UserError."""
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise UserError(f"{file}: not a whole safetensors file ({error}); fetch or write it again") from None


def weight_files(folder: Path) -> list[Path]:
    """Return the one safetensors file of a folder, or its shards; refuse pickles."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        index = read_json(folder / INDEX_FILE)
        names = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise UserError(f"{folder / INDEX_FILE}: weight_map must name the file of each tensor; restore the file")
        files = [folder / name for name in sorted(set(names.values()))]
        for file in files:
            if not file.is_file():
                raise UserError(f"{file}: no such file, though {INDEX_FILE} names it; fetch the missing shard")
        return files
    if pickles := sorted(folder.glob("pytorch_model*.bin")) or sorted([*folder.glob("*.pt"), *folder.glob("*.pth")]):
        architectures = read_json(folder / "config.json").get("architectures") or ["GPT2LMHeadModel"]
        convert = f"{architectures[0]}.from_pretrained('{folder}').save_pretrained('{folder}')"
        remedy = f'convert it once: python -c "from transformers import {architectures[0]}; {convert}"'
        raise UserError(f"{pickles[0]}: a pickle can run any code and is not read; {remedy}")
    raise UserError(f"{folder}: has no {WEIGHTS_FILE}; run `dvc repro` to build it, or correct the path")


def fingerprint(folder: str | Path) -> str:
    """Return the SHA-256 of what a model folder computes: config, weights, tokenizer; not of its card or origin."""
    folder = Path(folder)
    files = [folder / name for name in ("config.json", "vocab.json", "merges.txt")]
    return sha256_files([file for file in files if file.is_file()] + weight_files(folder))


def describe_weights(folder: str | Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of every stored tensor, by its key, without reading the numbers."""
    found = {}
    for file in weight_files(Path(folder)):
        with _opened(file) as opened:
            for key in opened.keys():  # noqa: SIM118 (safe_open is no mapping)
                tensor = opened.get_slice(key)
                found[key] = (tensor.get_dtype(), tuple(tensor.get_shape()))
    return found
