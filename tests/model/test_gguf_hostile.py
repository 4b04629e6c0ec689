"""What a GGUF file says is compared with its size and its tensors before memory is taken: one line, no traceback."""

import itertools
import struct
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny import llama_config

from llmcore.base.errors import UserError
from llmcore.model.gguf import load_gguf, read_metadata
from llmcore.model.gguf_write import write_gguf
from llmcore.model.registry import new_model

HUGE = [2**31, 2**60, 2**64 - 1]
MAX_BYTES = 30e6
numbered = itertools.count()


@pytest.fixture(scope="module")
def small(randomised: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    tokens = {"tokenizer.ggml.tokens": ["a", "b", "c"], "tokenizer.ggml.token_type": [1, 1, 3]}
    write_gguf(path, randomised(new_model(replace(llama_config(), n_layer=1))), "f32", tokens)
    load_gguf(path)  # what is imported and allocated once
    return path


def refused(path: Path, message: str = "") -> str:
    """Loading fails at once, with a one-line message that names the file, and little memory."""
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message) as caught:
            load_gguf(path)
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 5
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(small: Path, folder: Path, at: int, data: bytes) -> Path:
    content = bytearray(small.read_bytes())
    content[at : at + len(data)] = data
    (folder / "changed.gguf").write_bytes(content)
    return folder / "changed.gguf"


# ---- the header


def test_a_file_cut_anywhere_is_refused(small: Path, tmp_path: Path) -> None:
    content = small.read_bytes()
    header = GGUFReader(small).data_offset
    for size in [*range(0, header, 7), header, header + 1, len(content) - 100]:
        (tmp_path / "cut.gguf").write_bytes(content[:size])
        refused(tmp_path / "cut.gguf", "not complete or damaged|ends at byte")


@pytest.mark.parametrize(
    ("at", "data", "message"),
    [
        (0, b"GGML", "not a GGUF file; give one, or a model folder"),
        (4, struct.pack("<I", 1), "GGUF's version must be 2 or 3, got 1"),
        (4, struct.pack("<I", 4), "GGUF's version must be 2 or 3, got 4"),
        (4, struct.pack(">I", 3), "is big-endian GGUF; convert it"),
        *((8, struct.pack("<Q", count), "not complete or damaged") for count in HUGE),  # tensors
        *((16, struct.pack("<Q", count), "not complete or damaged") for count in HUGE),  # keys
        *((24, struct.pack("<Q", count), "ends within its header") for count in HUGE),  # the first key's length
    ],
)
def test_what_is_wrong_at_the_beginning_is_named(
    small: Path, tmp_path: Path, at: int, data: bytes, message: str
) -> None:
    refused(changed(small, tmp_path, at, data), message)


@pytest.mark.parametrize("count", HUGE)
@pytest.mark.parametrize("key", ["tokenizer.ggml.tokens", "tokenizer.ggml.token_type"])
def test_a_list_of_a_huge_length_takes_no_memory(small: Path, tmp_path: Path, key: str, count: int) -> None:
    at = after(small, key) + 8  # the type of the value, and of the items
    refused(changed(small, tmp_path, at, struct.pack("<Q", count)), "not complete or damaged")


@pytest.mark.parametrize("kind", [9, 13, 2**32 - 1])
def test_types_of_metadata_that_are_unknown_are_refused(small: Path, tmp_path: Path, kind: int) -> None:
    at = after(small, "tokenizer.ggml.tokens") + 4
    refused(changed(small, tmp_path, at, struct.pack("<I", kind)), "'tokenizer.ggml.tokens' is a list of the unknown")
    if kind != 9:
        at = after(small, "llama.block_count")
        refused(changed(small, tmp_path, at, struct.pack("<I", kind)), "'llama.block_count' has the unknown type")


def test_a_text_that_is_not_utf8_is_refused(small: Path, tmp_path: Path) -> None:
    refused(changed(small, tmp_path, 32, b"\xff"), "holds a text that is not UTF-8")


@pytest.mark.parametrize("size", [0, 2**31, 2**60, 2**64 - 1])
@pytest.mark.parametrize("name", ["token_embd.weight", "blk.0.ffn_up.weight", "output_norm.weight"])
def test_dimensions_of_a_huge_size_take_no_memory(small: Path, tmp_path: Path, name: str, size: int) -> None:
    at = after(small, name) + 4
    refused(changed(small, tmp_path, at, struct.pack("<Q", size)), "not complete or damaged")


@pytest.mark.parametrize("count", [0, 5, 2**32 - 1])
def test_a_tensor_has_one_to_four_dimensions(small: Path, tmp_path: Path, count: int) -> None:
    at = after(small, "token_embd.weight")
    refused(changed(small, tmp_path, at, struct.pack("<I", count)), f"'token_embd.weight' has {count} dimensions")


@pytest.mark.parametrize("offset", [1, 32, 2**31, 2**60 + 32, 2**64 - 32])
def test_offsets_that_lie_are_refused(small: Path, tmp_path: Path, offset: int) -> None:
    at = after(small, "blk.0.ffn_up.weight") + 4 + 2 * 8 + 4
    refused(changed(small, tmp_path, at, struct.pack("<Q", offset)), "begins within another|ends at byte")


@pytest.mark.parametrize(("kind", "got"), [(6, "Q5_0"), (24, "I8"), (28, "F64"), (4, "4"), (2**31, "2147483648")])
def test_types_of_tensors_that_are_not_read_are_named(small: Path, tmp_path: Path, kind: int, got: str) -> None:
    at = after(small, "blk.0.ffn_up.weight") + 4 + 2 * 8
    refused(changed(small, tmp_path, at, struct.pack("<I", kind)), rf"'blk\.0\.ffn_up\.weight' must be .*, got {got};")


def test_a_quantised_type_of_rows_that_are_no_whole_blocks_is_refused(small: Path, tmp_path: Path) -> None:
    at = after(small, "blk.0.ffn_up.weight") + 4 + 2 * 8
    refused(changed(small, tmp_path, at, struct.pack("<I", 8)), "does not hold whole blocks of 32")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(small: Path, tmp_path: Path, number: float) -> None:
    at = next(tensor.data_offset for tensor in GGUFReader(small).tensors if tensor.name == "blk.0.attn_k.weight")
    refused(changed(small, tmp_path, at + 40, struct.pack("<f", number)), r"blk\.0\.attn_k\.weight holds NaN")


def test_a_folder_a_pipe_and_nothing_are_refused(small: Path, tmp_path: Path) -> None:
    refused(tmp_path, "must be a file, got a folder")
    refused(tmp_path / "absent.gguf", "no such file")
    (tmp_path / "empty.gguf").touch()
    refused(tmp_path / "empty.gguf", "ends within its header, at byte 0")


# ---- keys and tensors


def remade(
    small: Path,
    folder: Path,
    keys: dict[str, Any] | None = None,
    tensors: Callable[[str, np.ndarray], np.ndarray | None] = lambda name, data: data,
    more: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write the file again by the library with other keys (None leaves one out) and tensors."""
    reader = GGUFReader(small)
    values = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")} | (
        keys or {}
    )
    writer = GGUFWriter(folder / "remade.gguf", values.pop("general.architecture") or "llama")
    kinds = {bool: "BOOL", int: "UINT64", float: "FLOAT32", str: "STRING", list: "ARRAY"}
    for key, value in values.items():
        if value is not None:
            writer.add_key_value(key, value, GGUFValueType[kinds[type(value)]])
    for tensor in reader.tensors:
        if (data := tensors(tensor.name, tensor.data)) is not None:
            writer.add_tensor(tensor.name, data)
    for name, data in (more or {}).items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "remade.gguf"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"general.architecture": "gemma3"}, "general.architecture must be 'gpt2', 'llama', .*, got 'gemma3'"),
        ({"general.alignment": 0}, "general.alignment must be a power of two, got 0"),
        ({"general.alignment": 48}, "general.alignment must be a power of two, got 48"),
        ({"llama.block_count": None}, "llama.block_count must be a positive integer, got None"),
        ({"llama.block_count": 2**60}, r"block_count must be the number of layers in the file \(1\)"),
        ({"llama.embedding_length": 2**60}, "token_embd.weight must have shape"),
        ({"llama.embedding_length": "wide"}, "llama.embedding_length must be a positive integer, got 'wide'"),
        ({"llama.embedding_length": 0}, "llama.embedding_length must be a positive integer, got 0"),
        ({"llama.feed_forward_length": 2**60}, "ffn_gate.weight must have shape"),
        ({"llama.attention.head_count": 0}, "llama.attention.head_count must be a positive integer"),
        ({"llama.attention.head_count": [4, 4]}, "llama.attention.head_count must be a positive integer"),
        ({"llama.attention.head_count": 2**60}, "must have shape"),
        ({"llama.attention.head_count_kv": 3}, "num_attention_heads must be a multiple of num_key_value_heads"),
        ({"llama.attention.value_length": 8}, r"attention.value_length must be the size of a head \(4\), got 8"),
        ({"llama.attention.key_length": 2**60}, "attention.value_length must be the size of a head"),
        ({"llama.rope.dimension_count": 2}, r"rope.dimension_count must be the size of a head \(4\), got 2"),
        ({"llama.rope.dimension_count": 4.0}, "rope.dimension_count must be the size of a head"),
        ({"llama.rope.freq_base": 0.0}, "llama.rope.freq_base must be a positive number, got 0.0"),
        ({"llama.rope.freq_base": float("nan")}, "llama.rope.freq_base must be a positive number"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "layer_norm_rms_epsilon must be a positive number"),
        ({"llama.context_length": None}, "llama.context_length must be a positive integer, got None"),
        ({"llama.rope.scaling.type": "yarn"}, "'llama.rope.scaling.type' = 'yarn' is not computed here"),
        ({"llama.rope.scaling.type": "linear"}, "'llama.rope.scaling.type' = 'linear' is not computed here"),
        ({"llama.rope.scaling.factor": 4.0}, "'llama.rope.scaling.factor' = '4.0' is not computed here"),
        ({"llama.attention.sliding_window": 4096}, "'llama.attention.sliding_window' = '4096' is not computed here"),
        ({"llama.expert_count": 8}, "'llama.expert_count' = '8' is not computed here"),
        ({"llama.logit_scale": 0.5}, "'llama.logit_scale' = '0.5' is not computed here"),
    ],
)
def test_settings_that_are_wrong_missing_or_not_computed_are_named(
    small: Path, tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    refused(remade(small, tmp_path, keys), message)


def test_settings_that_ask_for_nothing_are_accepted(small: Path, tmp_path: Path) -> None:
    neutral = {"llama.expert_count": 0, "llama.rope.scaling.type": "none", "llama.attention.causal": True}
    load_gguf(remade(small, tmp_path, {**neutral, "llama.rope.dimension_count": None, "llama.vocab_size": 7}))


@pytest.mark.parametrize("name", ["token_embd.weight", "blk.0.ffn_norm.weight", "output_norm.weight"])
def test_a_missing_tensor_is_named(small: Path, tmp_path: Path, name: str) -> None:
    refused(remade(small, tmp_path, tensors=lambda n, data: None if n == name else data), f"{name} .*is missing")


def test_a_tensor_of_another_shape_is_named(small: Path, tmp_path: Path) -> None:
    path = remade(small, tmp_path, tensors=lambda n, data: data[:-1] if n == "blk.0.attn_v.weight" else data)
    refused(path, r"blk\.0\.attn_v\.weight must have shape \(8, 16\), got \(7, 16\)")


@pytest.mark.parametrize("name", ["blk.0.attn_q.bias", "blk.0.ffn_gate_exps.weight", "rope_freqs.bias", "a\nb"])
def test_a_tensor_without_a_place_is_named(small: Path, tmp_path: Path, name: str) -> None:
    """Without its biases it would be another model, and nothing would say so."""
    refused(remade(small, tmp_path, more={name: np.zeros(16, np.float32)}), "belongs to no part of this model")


def test_names_are_shown_on_one_line(small: Path, tmp_path: Path) -> None:
    refused(remade(small, tmp_path, {"llama.a\nb": "c\nd"}), "is not computed here")
    refused(remade(small, tmp_path, {"general.architecture": "a\nb"}), "general.architecture must be")
    path = remade(small, tmp_path, more={"a\nb": np.zeros(16, np.float64)})
    refused(path, "must be of type")


def after(path: Path, name: str) -> int:
    """The place behind a name in the header."""
    content = path.read_bytes()
    sized = struct.pack("<Q", len(name)) + name.encode()
    assert content.count(sized) == 1
    return content.index(sized) + len(sized)


# ---- anything


@settings(deadline=1000, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_with_any_bytes_changed_loads_or_is_refused(small: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(small.read_bytes())
    header = GGUFReader(small).data_offset
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, header - 1), st.integers(0, len(content) - 1)))
        piece = data.draw(st.one_of(st.binary(min_size=1, max_size=9), st.just(b"\xff" * 8), st.just(b"\0" * 8)))
        content[at : at + len(piece)] = piece
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path = tmp_path / f"{next(numbered)}.gguf"
    path.write_bytes(content[:cut])
    message = ""
    tracemalloc.start()
    try:
        load_gguf(path)
    except UserError as error:
        message = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        path.unlink()
    assert peak < MAX_BYTES
    assert "\n" not in message


@given(content=st.binary(max_size=400))
@example(b"GGUF\x03\0\0\0" + b"\0" * 16)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.gguf"
    path.write_bytes(content)
    with pytest.raises(UserError):
        load_gguf(path)


def test_metadata_are_read_without_the_weights(small: Path) -> None:
    assert read_metadata(small)["tokenizer.ggml.tokens"] == ["a", "b", "c"]
    assert read_metadata(small)["llama.attention.layer_norm_rms_epsilon"] == 1e-5
