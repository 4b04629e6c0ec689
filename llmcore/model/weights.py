"""The weights of a model folder: safetensors, whole or in shards, checked tensor by tensor."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, user_errors, writing
from llmcore.model.architecture import Architecture
from llmcore.model.transformer import ModelConfig

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_MAPPED_BYTES = 1 << 22
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


class TensorHeader(NamedTuple):
    """A tensor as the header of its file describes it; `dtype` is safetensors' word, F32 say."""

    file: Path
    key: str
    dtype: str
    shape: tuple[int, ...]


def read_headers(folder: str | Path) -> list[TensorHeader]:
    """Return every stored tensor of a folder without its numbers, each file's header being parsed once."""
    found = []
    for file in weight_files(Path(folder)):
        with _opened(file) as opened:
            for key in opened.keys():  # noqa: SIM118 (safe_open is no mapping)
                tensor = opened.get_slice(key)
                found.append(TensorHeader(file, key, tensor.get_dtype(), tuple(tensor.get_shape())))
    return found


def check_sizes(folder: str | Path, headers: Sequence[TensorHeader], entry: Architecture, config: ModelConfig) -> None:
    """UserError if the weights are not of the sizes of `config`, before a model of these sizes is built."""
    stored = {entry.our_name(tensor.key): tensor for tensor in headers}
    for name, fields in entry.embeddings.items():
        shape = tuple(getattr(config, field) for field in fields)
        if name not in stored:
            raise UserError(f"{folder}: {name} {shape} is missing; the weights are not complete")
        _check_shape(stored[name], shape)
    layers = {layer for name in stored if name and (layer := entry.layer_of(name))}
    if config.n_layer > len(layers):
        rule = f"n_layer must be the number of layers in the weights ({len(layers)}), got {config.n_layer}"
        raise UserError(f"{folder}/config.json: {rule}; give files that belong together")


def read_weights(
    folder: str | Path,
    headers: Sequence[TensorHeader],
    entry: Architecture,
    config: ModelConfig,
    shapes: Mapping[str, tuple[int, ...]],
    tied: Mapping[str, str],
) -> dict[str, Tensor]:
    """Return fp32 tensors under our names, exactly those in `shapes`, in memory for one copy.

    A missing or surplus tensor, a wrong shape or type, or a number that is not finite is a UserError
    that names it. `tied` maps a name that the file may leave out to the one whose tensor it shares.
    """
    zeros = entry.zero_tensors(config)
    names = _names_of(headers, entry, zeros.keys(), shapes)
    if missing := sorted(name for name in shapes.keys() - names.values() if tied.get(name) not in names.values()):
        raise UserError(f"{folder}: {missing[0]} {shapes[missing[0]]} is missing; the weights are not complete")
    state = {}
    for stored, tensor in _numbers(list(names)):
        name = names[stored]
        if name in zeros:
            if tensor.any():
                raise UserError(f"{stored.file}: {stored.key} must be zero for this config.json; correct either")
            continue
        state[name] = _checked(stored, tensor, shapes[name], entry, name)
    for name, source in tied.items():
        if name in state and not torch.equal(state[name], state[source]):
            raise UserError(f"{folder}: {name} differs from {source}, to which config.json ties it; set it untied")
        state[name] = state[source]
    return state


def _names_of(
    headers: Sequence[TensorHeader],
    entry: Architecture,
    zeros: Collection[str],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[TensorHeader, str]:
    """Return our name of each tensor that is to be read; UserError for one of a wrong shape or without a place."""
    names: dict[TensorHeader, str] = {}
    seen = set()
    for stored in headers:
        name = entry.our_name(stored.key)
        if name is None:
            continue
        if name not in shapes and name not in zeros:
            found = f"{stored.key} {stored.shape}"
            raise UserError(f"{stored.file}: {found} belongs to no part of this model; check config.json beside it")
        if name in seen:
            raise UserError(f"{stored.file}: {stored.key} is stored a second time, as {name}; remove one of the two")
        if name in shapes:
            _check_shape(stored, entry.stored_shape(name, shapes[name]))
        seen.add(name)
        names[stored] = name
    return names


def _check_shape(stored: TensorHeader, expected: tuple[int, ...]) -> None:
    if stored.shape != expected:
        rule = f"must have shape {expected}, got {stored.shape}"
        raise UserError(f"{stored.file}: {stored.key} {rule}; check config.json")


def write_weights(folder: str | Path, state: Mapping[str, Tensor], entry: Architecture, config: ModelConfig) -> None:
    """Write `state` (our names) in fp32 as `model.safetensors`; a tied head is stored once."""
    stored = {}
    for name, tensor in sorted(state.items()):
        if name == "lm_head.weight" and config.tied_head:
            continue
        stored[name] = entry.transpose(name, tensor.detach()).to("cpu", torch.float32).contiguous()
    stored |= {name: torch.zeros(shape) for name, shape in entry.zero_tensors(config).items()}
    path = Path(folder) / WEIGHTS_FILE
    with writing(path) as temporary, user_errors(path):
        save_file(stored, temporary, metadata={"format": "pt"})


def _checked(stored: TensorHeader, tensor: Tensor, shape: tuple[int, ...], entry: Architecture, name: str) -> Tensor:
    """Return a copy of a stored tensor in our orientation and fp32; UserError if its type or numbers are wrong."""
    file, key = stored.file, stored.key
    if tensor.dtype not in FLOATS:
        kinds = "float32, float16 or bfloat16"
        raise UserError(f"{file}: {key} must be {kinds}, got {tensor.dtype}; convert the weights")
    copy = torch.empty(shape).copy_(entry.transpose(name, tensor))
    if not torch.stack(copy.aminmax()).isfinite().all():  # NaN is both minimum and maximum of any numbers
        raise UserError(f"{file}: {key} holds NaN or infinity; the weights are damaged, fetch them again")
    return copy


def _numbers(wanted: Sequence[TensorHeader]) -> Iterator[tuple[TensorHeader, Tensor]]:
    """Yield the tensors with their numbers, one at a time, each a view of its mapped file.

    Pages that were read count as memory of this process until the mapping ends: a new one begins when
    MAX_MAPPED_BYTES were read.
    """
    start = 0
    while start < len(wanted):
        file = wanted[start].file
        mapped = 0
        with _opened(file) as opened:
            while start < len(wanted) and wanted[start].file == file and mapped < MAX_MAPPED_BYTES:
                tensor = opened.get_tensor(wanted[start].key)
                mapped += tensor.nbytes
                yield wanted[start], tensor
                del tensor
                start += 1


def _opened(file: Path) -> safe_open:
    """Map a weight file; UserError if it is truncated or not in safetensors format."""
    try:
        return safe_open(file, framework="pt")
    except SafetensorError as error:
        raise UserError(f"{file}: not a complete safetensors file ({error}); fetch or write it again") from None


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
        remedy = f"convert it once: {_conversion(folder)}"
        raise UserError(f"{pickles[0]}: a pickle can run any code and is not read; {remedy}")
    raise UserError(f"{folder}: has no {WEIGHTS_FILE}; run `dvc repro` to build it, or correct the path")


def _conversion(folder: Path) -> str:
    """Return a command that writes a folder's pickle as safetensors; of the folder's content, nothing stands in it."""
    values = read_json(folder / "config.json")
    named = values.get("architectures") if isinstance(values, dict) else None
    kind = "AutoModelForSequenceClassification" if "ForSequenceClassification" in str(named) else "AutoModelForCausalLM"
    code = (
        f"import sys; from transformers import {kind} as M; M.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])"
    )
    return f'python -c "{code}" {shlex.quote(str(folder))}'


def describe_weights(folder: str | Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of every stored tensor, by its key, without reading the numbers."""
    return {stored.key: (stored.dtype, stored.shape) for stored in read_headers(folder)}
