"""Model folders go to transformers and come back unchanged; the same model gives the same bytes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from model_folders import assert_equal_states, assert_refused, set_config, their_model
from safetensors.torch import load_file

from llmcore.base.errors import UserError
from llmcore.base.files import sha256_folder
from llmcore.model.folder import load_language_model, save_language_model
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel
from llmcore.tokenizer.load import load_tokenizer

TEXTS = ["Anna had a ball.", " two  spaces\n\nand lines ", "naïve 🐈 日本", "<|endoftext|>"]
WEIGHTS = "model.safetensors"


@pytest.mark.parametrize("tied_head", [True, False])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_transformers_opens_the_folder_with_equal_logits_and_ids(
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
def test_a_loaded_model_equals_the_saved_one(config, tied_head, qkv_bias, randomised, tokenizer, tmp_path):
    model = randomised(new_model(replace(config, tied_head=tied_head, qkv_bias=qkv_bias)))
    write(tmp_path, model, tokenizer)
    again = load_language_model(tmp_path)
    assert again.config == model.config
    assert not again.training
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert_equal_states(again.state_dict(), model.state_dict())


def test_a_model_without_qkv_bias_stores_zeros(config, randomised, tokenizer, tmp_path):
    write(tmp_path, randomised(new_model(replace(config, qkv_bias=False))), tokenizer)
    assert torch.equal(load_file(tmp_path / "model.safetensors")["transformer.h.1.attn.c_attn.bias"], torch.zeros(24))


def test_tensors_of_transformers_survive_loading_and_saving(randomised, tokenizer, tmp_path):
    theirs = randomised(their_model())
    theirs.save_pretrained(tmp_path / "theirs")
    write(tmp_path / "ours", load_language_model(tmp_path / "theirs"), tokenizer)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert_equal_states(again.state_dict(), theirs.state_dict())


def test_the_same_model_gives_the_same_bytes(gpt, tokenizer, tmp_path):
    write(tmp_path / "first", gpt, tokenizer)
    write(tmp_path / "second", gpt, tokenizer)
    write(tmp_path / "copy", load_language_model(tmp_path / "first"), tokenizer)
    assert sha256_folder(tmp_path / "first") == sha256_folder(tmp_path / "second") == sha256_folder(tmp_path / "copy")


def test_saving_replaces_the_whole_folder(gpt, tokenizer, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    write(tmp_path, gpt, tokenizer)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "merges.txt",
        "model.safetensors",
        "origin.json",
        "tokenizer_config.json",
        "vocab.json",
    ]


# ---- damaged folders


@pytest.fixture
def folder(gpt, tokenizer, tmp_path) -> Path:
    write(tmp_path / "m", gpt, tokenizer)
    return tmp_path / "m"


def test_the_undamaged_folder_loads(folder):
    load_language_model(folder)
    load_tokenizer(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type must be 'gpt2', 'llama', 'mistral', 'qwen2', 'qwen3', got 'bert'"),
        ({"model_type": None}, "model_type must be 'gpt2', 'llama', 'mistral', 'qwen2', 'qwen3', got None"),
        ({"activation_function": "gelu"}, "activation_function must be 'gelu_new', got 'gelu'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx must be False, got True"),
        ({"scale_attn_weights": False}, "scale_attn_weights must be True, got False"),
        ({"add_cross_attention": True}, "add_cross_attention must be False, got True"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon must be 1e-05, got 1e-06"),
        ({"n_inner": 8}, "n_inner must be 4 n_embd, got 8"),
        ({"n_head": 3}, r"n_embd must be a multiple of n_head \(3\), got 8"),
        ({"n_layer": 0}, "n_layer must be a positive integer, got 0"),
        ({"n_layer": True}, "n_layer must be a positive integer, got True"),
        ({"n_positions": None}, "n_positions must be a positive integer, got None"),
        ({"vocab_size": "320"}, "vocab_size must be a positive integer, got '320'"),
        ({"qkv_bias": "no"}, "qkv_bias must be true or false, got 'no'"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false, got 1"),
        ({"resid_pdrop": "0.1"}, "resid_pdrop must be a number from 0 to below 1, got '0.1'"),
        ({"n_layer": 3}, r"config\.json: n_layer must be the number of layers in the weights \(2\), got 3"),
        ({"n_layer": 1}, r"transformer\.h\.1\.\S+ \(.+\) belongs to no part of this model"),
        ({"n_positions": 25}, r"wpe\.weight must have shape \(25, 8\), got \(24, 8\)"),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_a_config_that_does_not_fit_is_refused_by_key(folder, changes, message):
    set_config(folder, **changes)
    assert_refused(folder, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "gpt2",', r"config\.json: not valid JSON"),
        ("", r"config\.json: not valid JSON"),
        ('["gpt2"]', r"config\.json: must be a JSON object, got list"),
    ],
)
def test_a_broken_config_is_named(folder, text, message):
    (folder / "config.json").write_text(text)
    assert_refused(folder, message)


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such model folder"):
        load_language_model(tmp_path / "nowhere")
    (folder / WEIGHTS).unlink()
    assert_refused(folder, r"m: has no model\.safetensors")
    (folder / "config.json").unlink()
    assert_refused(folder, r"config\.json: no such file")


def write(folder, model: LanguageModel, tokenizer) -> None:
    save_language_model(folder, model, tokenizer=tokenizer, origin={"inputs": {}})
