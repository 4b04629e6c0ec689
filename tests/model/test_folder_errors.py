"""A damaged or foreign model folder is a UserError that names what is wrong, and nothing in it is changed."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmcore.base.errors import UserError
from llmcore.base.files import sha256_folder
from llmcore.model.folder import load_language_model, save_language_model
from llmcore.model.weights import describe_weights
from llmcore.tokenizer.bpe import load_tokenizer

C_FC = "transformer.h.0.mlp.c_fc.weight"
WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(gpt, tokenizer, tmp_path) -> Path:
    save_language_model(tmp_path / "m", gpt.config, gpt.state_dict(), tokenizer=tokenizer, origin={}, card="")
    return tmp_path / "m"


def test_the_undamaged_folder_is_read(folder):
    load_language_model(folder)
    load_tokenizer(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(C_FC), r"m: transformer\.h\.0\.mlp\.c_fc\.weight \(32, 8\) is missing"),
        (
            lambda t: t.update({"h.2.ln_1.bias": torch.ones(8)}),
            r"safetensors: h\.2\.ln_1\.bias \(8,\) belongs to no part",
        ),
        (lambda t: t.update({"score.weight": torch.ones(2, 8)}), r"score\.weight \(2, 8\) belongs to no part"),
        (lambda t: t.update({"ln_f.bias": torch.ones(8)}), r"ln_f\.bias is stored a second time"),
        (
            lambda t: t.update({C_FC: t[C_FC].t().contiguous()}),
            r"c_fc\.weight must have shape \(8, 32\), got \(32, 8\)",
        ),
        (lambda t: t[C_FC][3].fill_(torch.nan), r"c_fc\.weight holds NaN or infinity"),
        (lambda t: t[C_FC][3].fill_(torch.inf), r"c_fc\.weight holds NaN or infinity"),
        (lambda t: t.update({C_FC: t[C_FC].half().fill_(torch.inf)}), r"c_fc\.weight holds NaN or infinity"),
        (lambda t: t.update({C_FC: t[C_FC].int()}), r"c_fc\.weight must be float32.*got torch\.int32"),
        (lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"] + 1}), r"lm_head\.weight differs from"),
    ],
    ids=["missing", "surplus", "head", "twice", "swapped", "nan", "inf", "half-inf", "integers", "tied-differs"],
)
def test_wrong_tensors_are_named(folder, change, message):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    assert_refused(folder, message)


def test_a_stored_tied_head_that_is_equal_is_read(folder):
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {"lm_head.weight": tensors["transformer.wte.weight"].clone()}, folder / WEIGHTS)
    assert load_language_model(folder).lm_head.weight.shape == tensors["transformer.wte.weight"].shape


def test_an_untied_head_that_is_not_stored_is_named(folder):
    set_config(folder, tie_word_embeddings=False)
    assert_refused(folder, r"lm_head\.weight .* is missing")


def test_a_bias_beside_qkv_bias_false_is_refused(folder):
    set_config(folder, qkv_bias=False)
    assert_refused(folder, r"h\.0\.attn\.c_attn\.bias must be zero where config\.json says qkv_bias false")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-10],
        lambda data: data[: len(data) // 2],
        lambda data: data[:20],
        lambda data: data[:4],
        lambda data: b"",
        lambda data: (10**6).to_bytes(8, "little") + data[8:],
        lambda data: (2**60).to_bytes(8, "little") + data[8:],
        lambda data: data[:8] + b"[" + data[9:],
        lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 548105171\n",
    ],
    ids=["cut", "half", "header-cut", "length-cut", "empty", "header-too-long", "huge", "broken-header", "lfs-pointer"],
)
def test_a_file_that_is_no_whole_safetensors_is_named(folder, damage):
    (folder / WEIGHTS).write_bytes(damage((folder / WEIGHTS).read_bytes()))
    assert_refused(folder, r"model\.safetensors: not a whole safetensors file")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        describe_weights(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "model_type must be 'gpt2', got 'llama'"),
        ({"model_type": None}, "model_type must be 'gpt2', got None"),
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
        ({"n_layer": 3}, r"transformer\.h\.2\.\S+ \S+ is missing"),
        ({"n_layer": 1}, r"transformer\.h\.1\.\S+ \(.+\) belongs to no part of this model"),
        ({"n_positions": 25}, r"wpe\.weight must have shape \(25, 8\), got \(24, 8\)"),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_a_config_of_another_model_is_named(folder, changes, message):
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


def test_what_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such model folder"):
        load_language_model(tmp_path / "nowhere")
    (folder / WEIGHTS).unlink()
    assert_refused(folder, r"m: has no model\.safetensors")
    (folder / "config.json").unlink()
    assert_refused(folder, r"config\.json: no such file")


def test_a_pickle_is_refused_with_a_command_that_converts_it(folder, gpt):
    import transformers

    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    message = assert_refused(folder, r"pytorch_model\.bin: a pickle can run any code and is not read")
    command = re.search(r'python -c "(.+)"$', message)
    assert command
    exec(command[1], {})
    assert torch.equal(load_language_model(folder).lm_head.weight, gpt.lm_head.weight)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"weight_map": {"wte.weight": "model-00001.safetensors"}}',
            r"model-00001\.safetensors: no such file, though",
        ),
        ('{"weight_map": {"wte.weight": 1}}', r"index\.json: weight_map must name the file of each tensor"),
        ("{}", r"index\.json: weight_map must name the file of each tensor"),
        ("[]", r"index\.json: weight_map must name the file of each tensor"),
        ("{", r"index\.json: not valid JSON"),
    ],
)
def test_a_broken_index_of_shards_is_named(folder, text, message):
    (folder / WEIGHTS).unlink()
    (folder / f"{WEIGHTS}.index.json").write_text(text)
    assert_refused(folder, message)


def set_config(folder: Path, **changes) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


def assert_refused(folder: Path, message: str) -> str:
    before = sha256_folder(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_language_model(folder)
    assert "\n" not in str(caught.value)
    assert sha256_folder(folder) == before
    return str(caught.value)
