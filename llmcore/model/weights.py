"""The weights of a model folder: safetensors, whole or in shards, checked tensor by tensor."""

from collections.abc import Iterator, Mapping
from pathlib import Path

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
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def read_weights(
    folder: str | Path,
    entry: Architecture,
    config: ModelConfig,
    shapes: Mapping[str, tuple[int, ...]],
    tied: Mapping[str, str],
) -> dict[str, Tensor]:
    """Return fp32 tensors under our names, exactly those in `shapes`, in memory for one copy.

    A missing or surplus tensor, a wrong shape or type, or a number that is not finite is a UserError
    that names it. `tied` maps a name that the file may leave out to the one whose tensor it shares.
    """
    folder, state = Path(folder), {}
    zeros = entry.zero_tensors(config)
    for file, key, tensor in _stored(folder):
        name = entry.our_name(key)
        if name is None:
            continue
        if name in zeros:
            if tensor.any():
                raise UserError(f"{file}: {key} must be zero for this config.json; correct either")
            continue
        if name not in shapes:
            found = f"{key} {tuple(tensor.shape)}"
            raise UserError(f"{file}: {found} belongs to no part of this model; check config.json beside it")
        if name in state:
            raise UserError(f"{file}: {key} is stored a second time, as {name}; remove one of the two")
        state[name] = _checked(file, key, tensor, shapes[name], entry, name)
    for name, source in tied.items():
        if source in state and name in state and not torch.equal(state[name], state[source]):
            raise UserError(f"{folder}: {name} differs from {source}, to which config.json ties it; set it untied")
        if source in state:
            state[name] = state[source]
    if missing := sorted(shapes.keys() - state.keys()):
        raise UserError(f"{folder}: {missing[0]} {shapes[missing[0]]} is missing; the weights are not complete")
    return state


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


def _checked(file: Path, key: str, tensor: Tensor, shape: tuple[int, ...], entry: Architecture, name: str) -> Tensor:
    """Return a copy of a stored tensor in our orientation and fp32; UserError if shape, type or numbers are wrong."""
    expected = entry.stored_shape(name, shape)
    if tuple(tensor.shape) != expected:
        raise UserError(f"{file}: {key} must have shape {expected}, got {tuple(tensor.shape)}; check config.json")
    if tensor.dtype not in FLOATS:
        kinds = "float32, float16 or bfloat16"
        raise UserError(f"{file}: {key} must be {kinds}, got {tensor.dtype}; convert the weights")
    copy = torch.empty(shape).copy_(entry.transpose(name, tensor))
    if not torch.stack(copy.aminmax()).isfinite().all():  # NaN is both minimum and maximum of any numbers
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
        architectures = read_json(folder / "config.json").get("architectures") or ["AutoModelForCausalLM"]
        convert = f"{architectures[0]}.from_pretrained('{folder}').save_pretrained('{folder}')"
        remedy = f'convert it once: python -c "from transformers import {architectures[0]}; {convert}"'
        raise UserError(f"{pickles[0]}: a pickle can run any code and is not read; {remedy}")
    raise UserError(f"{folder}: has no {WEIGHTS_FILE}; run `dvc repro` to build it, or correct the path")


def describe_weights(folder: str | Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of every stored tensor, by its key, without reading the numbers."""
    found = {}
    for file in weight_files(Path(folder)):
        with _opened(file) as opened:
            for key in opened.keys():  # noqa: SIM118 (safe_open is no mapping)
                tensor = opened.get_slice(key)
                found[key] = (tensor.get_dtype(), tuple(tensor.get_shape()))
    return found
