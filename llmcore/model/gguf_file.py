"""The GGUF format: a header of keys and values, then tensors, many of them quantised in blocks.

The header is parsed here, because the `gguf` library takes the counts in a file on trust (one that lies fills the
memory) and needs seconds for a vocabulary. The blocks are the library's to dequantise. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import os
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from llmcore.base.errors import UserError
from llmcore.base.files import read_errors, reading

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32
CHUNK_NUMBERS = 1 << 20  # dequantised at a time; the library needs a few times their memory
READ_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")
TYPES = {kind.value: kind for kind in GGMLQuantizationType}

# types of metadata, by number: struct's letters; FLOAT32, STRING and ARRAY are more than a letter
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
FLOAT32, STRING, ARRAY = 6, 8, 9


class GgufTensor(NamedTuple):
    """A tensor as the header describes it."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]  # as torch orders it: rows first
    offset: int  # in bytes, from the beginning of the file
    n_bytes: int


class GgufFile(NamedTuple):
    """The header of a file, checked against the file's size."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]

    def rows(self, tensor: GgufTensor) -> Iterator[tuple[int, np.ndarray]]:
        """Yield a tensor's rows in fp32, some at a time, each time with the number of the first: (rows, columns).

        A tensor of one dimension is one row. UserError for NaN and infinity.
        """
        columns = tensor.shape[-1]
        n_rows = prod(tensor.shape[:-1])
        row_bytes = tensor.n_bytes // n_rows
        step = max(1, CHUNK_NUMBERS // columns)
        with reading(self.path) as file, read_errors(self.path):
            file.seek(tensor.offset)
            for first in range(0, n_rows, step):
                count = min(step, n_rows - first)
                data = np.frombuffer(bytearray(file.read(count * row_bytes)), dtype=np.uint8)  # torch wants to write
                if len(data) < count * row_bytes:
                    raise _damaged(self.path, f"ends within {tensor.name}")
                with np.errstate(all="ignore"):  # a scale may be infinite, which the next line finds
                    numbers = dequantize(data.reshape(count, row_bytes), tensor.type)
                if not np.isfinite([numbers.min(), numbers.max()]).all():
                    what = f"{tensor.name} holds NaN or infinity"
                    raise UserError(f"{self.path}: {what}; the weights are damaged, fetch them again")
                yield first, numbers


def read_header(path: str | Path) -> GgufFile:
    """Read keys, values and the list of tensors; UserError for a file that is not complete, little-endian GGUF."""
    path = Path(path)
    with reading(path) as file, read_errors(path):
        header = _Header(path, file, os.fstat(file.fileno()).st_size)
        if header.take(4) != MAGIC:
            raise UserError(f"{path}: not a GGUF file; give one, or a model folder")
        n_tensors, n_keys = header.counts()
        metadata = header.metadata(n_keys)
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1):
            rule = "general.alignment must be a power of two"
            raise UserError(f"{path}: {rule}, got {alignment!r}; fetch the file again")
        tensors = header.tensors(n_tensors, alignment)
    return GgufFile(path, metadata, tensors)


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; the file is not complete or damaged, fetch it again")


class _Header:
    """A position in the header; nothing is read, and no memory taken, beyond the end of the file."""

    def __init__(self, path: Path, file: BinaryIO, n_bytes: int):
        self.path = path
        self.file = file
        self.n_bytes = n_bytes
        self.position = 0

    def take(self, n_bytes: int) -> bytes:
        if n_bytes > self.n_bytes - self.position:
            raise _damaged(self.path, f"ends within its header, at byte {self.n_bytes:,}")
        self.position += n_bytes
        return self.file.read(n_bytes)

    def number(self, letter: str) -> Any:
        return struct.unpack(f"<{letter}", self.take(struct.calcsize(f"<{letter}")))[0]

    def text(self) -> str:
        data = self.take(self.number("Q"))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise _damaged(self.path, f"holds a text that is not UTF-8, before byte {self.position:,}") from None

    def counts(self) -> tuple[int, int]:
        """Return the numbers of tensors and of keys, which stand behind the version."""
        version = self.number("I")
        if version and version & 0xFFFF == 0:
            raise UserError(f"{self.path}: is big-endian GGUF; convert it to little-endian")
        if version not in VERSIONS:
            rule = f"GGUF's version must be {' or '.join(map(str, VERSIONS))}"
            raise UserError(f"{self.path}: {rule}, got {version}; convert the model again")
        return self.number("Q"), self.number("Q")

    def metadata(self, n_keys: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(n_keys):
            key = self.text()
            if key in found:
                raise _damaged(self.path, f"has the key {key[:80]!r} twice")
            found[key] = self.value(key, self.number("I"))
        return found

    def value(self, key: str, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind == FLOAT32:
            return float(str(np.float32(self.number("f"))))  # the shortest decimal: 1e-05, not 9.99999974738e-06
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == ARRAY:
            return self.array(key, self.number("I"), self.number("Q"))
        raise _damaged(self.path, f"{key[:80]!r} has the unknown type {kind}")

    def array(self, key: str, kind: int, count: int) -> list[Any]:
        if kind == STRING:
            return [self.text() for _ in range(count)]
        if kind not in SCALARS:
            raise _damaged(self.path, f"{key[:80]!r} is a list of the unknown type {kind}")
        items = np.frombuffer(self.take(count * struct.calcsize(f"<{SCALARS[kind]}")), dtype=f"<{SCALARS[kind]}")
        return list(items.tolist())

    def tensors(self, n_tensors: int, alignment: int) -> dict[str, GgufTensor]:
        """Read the list of tensors, whose offsets count from the end of the header."""
        listed = [self.tensor() for _ in range(n_tensors)]
        start = -(-self.position // alignment) * alignment
        found: dict[str, GgufTensor] = {}
        end = 0
        for tensor in sorted(listed, key=lambda tensor: tensor.offset):
            if tensor.name in found:
                raise _damaged(self.path, f"lists {tensor.name[:80]!r} twice")
            if tensor.offset % alignment or tensor.offset < end:
                raise _damaged(self.path, f"{tensor.name[:80]!r} begins within another tensor or not at a boundary")
            end = tensor.offset + tensor.n_bytes
            if start + end > self.n_bytes:
                raise _damaged(self.path, f"{tensor.name[:80]!r} ends at byte {start + end:,} of {self.n_bytes:,}")
            found[tensor.name] = tensor._replace(offset=start + tensor.offset)
        return found

    def tensor(self) -> GgufTensor:
        name = self.text()
        n_dimensions = self.number("I")
        if not 1 <= n_dimensions <= MAX_DIMENSIONS:
            raise _damaged(self.path, f"{name[:80]!r} has {n_dimensions} dimensions")
        shape = tuple(self.number("Q") for _ in range(n_dimensions))[::-1]
        kind, offset = self.number("I"), self.number("Q")
        if kind not in TYPES or TYPES[kind].name not in READ_TYPES:
            got = TYPES[kind].name if kind in TYPES else kind
            rule = f"{name[:80]!r} must be of type {', '.join(READ_TYPES)}"
            raise UserError(f"{self.path}: {rule}, got {got}; give a file with another quantisation")
        block, block_bytes = GGML_QUANT_SIZES[TYPES[kind]]
        if min(shape) == 0 or shape[-1] % block:
            raise _damaged(self.path, f"{name[:80]!r} of shape {shape} does not hold whole blocks of {block}")
        return GgufTensor(name, TYPES[kind], shape, offset, prod(shape) // block * block_bytes)
