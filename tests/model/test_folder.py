"""Model folders go to transformers and come back unchanged; the same model gives the same bytes."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file
from structure import ROOT

from llmcore.base.files import sha256_folder
from llmcore.model.folder import load_language_model, save_language_model
from llmcore.model.transformer import LanguageModel
from llmcore.model.weights import describe_weights

TEXTS = ["Anna had a ball.", " two  spaces\n\nand lines ", "naïve 🐈 日本", "<|endoftext|>"]


@pytest.mark.parametrize("tied_head", [True, False])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_transformers_opens_the_folder_to_equal_logits_and_ids(
    config, tied_head, qkv_bias, randomised, tokenizer, tmp_path
):
    ours = randomised(new_model(replace(config, tied_head=tied_head, qkv_bias=qkv_bias)))
    write(tmp_path, ours, tokenizer)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = torch.randint(config.vocab_size, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-5)
    assert (theirs.lm_head.weight is theirs.transformer.wte.weight) == tied_head
    assert [their_tokenizer(text, split_special_tokens=True).input_ids for text in TEXTS] == [
        tokenizer.encode(text) for text in TEXTS
    ]
    assert their_tokenizer.eos_token_id == their_tokenizer.pad_token_id == tokenizer.end_of_text
    assert theirs.config.eos_token_id == theirs.config.pad_token_id == tokenizer.end_of_text
    assert their_tokenizer.model_max_length == theirs.config.n_positions == config.context_length


@pytest.mark.parametrize("tied_head", [True, False])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_a_folder_is_read_as_it_was_written(config, tied_head, qkv_bias, randomised, tokenizer, tmp_path):
    model = randomised(new_model(replace(config, tied_head=tied_head, qkv_bias=qkv_bias)))
    write(tmp_path, model, tokenizer)
    again = load_language_model(tmp_path)
    assert again.config == model.config
    assert not again.training
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert_equal_states(again.state_dict(), model.state_dict())


def test_a_model_without_qkv_bias_is_written_with_zeros(config, randomised, tokenizer, tmp_path):
    write(tmp_path, randomised(new_model(replace(config, qkv_bias=False))), tokenizer)
    assert torch.equal(load_file(tmp_path / "model.safetensors")["transformer.h.1.attn.c_attn.bias"], torch.zeros(24))


def test_their_tensors_come_back_unchanged(randomised, tokenizer, tmp_path):
    theirs = randomised(their_model())
    theirs.save_pretrained(tmp_path / "theirs")
    write(tmp_path / "ours", load_language_model(tmp_path / "theirs"), tokenizer)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert_equal_states(again.state_dict(), theirs.state_dict())


def test_shards_give_the_model_of_one_file(randomised, tmp_path):
    theirs = randomised(their_model())
    theirs.save_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="4KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert_equal_states(
        load_language_model(tmp_path / "shards").state_dict(), load_language_model(tmp_path / "one").state_dict()
    )
    assert describe_weights(tmp_path / "shards") == describe_weights(tmp_path / "one")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_read_as_the_same_numbers_in_fp32(dtype, randomised, tmp_path):
    theirs = randomised(their_model()).to(dtype)
    theirs.save_pretrained(tmp_path)
    ours, stored = load_language_model(tmp_path).state_dict(), load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert {tensor.dtype for tensor in ours.values()} == {torch.float32}
    for name, tensor in stored.items():
        turned = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        assert torch.equal(ours[name], tensor.float().t() if turned else tensor.float()), name


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from Linux")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reading_needs_memory_for_one_copy_of_the_weights(dtype, config, tmp_path):
    shape = {"n_layer": 6, "n_head": 8, "n_embd": 512, "n_positions": 64, "vocab_size": 2000}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape)).to(dtype)
    theirs.save_pretrained(tmp_path / "large")
    transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_head=1, n_embd=4)).save_pretrained(tmp_path / "s")
    code = (
        "import re\nfrom llmcore.model.folder import load_language_model\n"
        "peak = lambda: 1024 * int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
        f"load_language_model({str(tmp_path / 's')!r}); before = peak(); load_language_model({str(tmp_path / 'large')!r})\n"
        "print(peak() - before)"
    )
    grown = int(subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True).stdout)
    largest = max(parameter.numel() for parameter in theirs.parameters())
    one_copy = 4 * sum(parameter.numel() for parameter in theirs.parameters())
    assert one_copy * 0.9 < grown < one_copy + 4 * largest + 8e6


def test_the_same_model_gives_the_same_bytes(gpt, tokenizer, tmp_path):
    write(tmp_path / "first", gpt, tokenizer)
    write(tmp_path / "second", gpt, tokenizer)
    write(tmp_path / "copy", load_language_model(tmp_path / "first"), tokenizer)
    assert sha256_folder(tmp_path / "first") == sha256_folder(tmp_path / "second") == sha256_folder(tmp_path / "copy")


def test_an_earlier_folder_is_replaced_whole(gpt, tokenizer, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    write(tmp_path, gpt, tokenizer)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "merges.txt",
        "model.safetensors",
        "origin.json",
        "tokenizer_config.json",
        "vocab.json",
    ]


def test_describing_the_weights_names_stored_types_and_shapes(gpt, tokenizer, tmp_path):
    write(tmp_path, gpt, tokenizer)
    found = describe_weights(tmp_path)
    assert found["transformer.h.0.attn.c_attn.weight"] == ("F32", (8, 24))
    assert "lm_head.weight" not in found  # tied: stored once
    assert sum(torch.Size(shape).numel() for _, shape in found.values()) == sum(p.numel() for p in gpt.parameters())


def write(folder, model: LanguageModel, tokenizer) -> None:
    save_language_model(
        folder, model.config, model.state_dict(), tokenizer=tokenizer, origin={"inputs": {}}, card="# A model\n"
    )


def their_model() -> transformers.GPT2LMHeadModel:
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 16, "vocab_size": 40}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape))


def assert_equal_states(first, second) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
