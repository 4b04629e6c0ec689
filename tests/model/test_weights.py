"""Weights in every form that transformers writes are read; a damaged file is a UserError that names what is wrong."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from model_folders import assert_equal_states, assert_refused, set_config, their_model
from peak_memory import needs_peak, run_measured
from safetensors.torch import load_file, save_file

from llmcore.base.errors import UserError
from llmcore.model.folder import load_language_model, save_language_model
from llmcore.model.weights import describe_weights

C_FC = "transformer.h.0.mlp.c_fc.weight"
WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(gpt, tokenizer, tmp_path) -> Path:
    save_language_model(tmp_path / "m", gpt, tokenizer=tokenizer, origin={})
    return tmp_path / "m"


def test_shards_give_the_model_of_one_file(randomised, tmp_path):
    theirs = randomised(their_model())
    theirs.save_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="4KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    one, shards = (load_language_model(tmp_path / name).state_dict() for name in ("one", "shards"))
    assert_equal_states(shards, one)
    assert describe_weights(tmp_path / "shards") == describe_weights(tmp_path / "one")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_read_as_the_same_numbers_in_fp32(dtype, randomised, tmp_path):
    theirs = randomised(their_model()).to(dtype)
    theirs.save_pretrained(tmp_path)
    ours = load_language_model(tmp_path).state_dict()
    stored = load_file(tmp_path / WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert {tensor.dtype for tensor in ours.values()} == {torch.float32}
    for name, tensor in stored.items():
        turned = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        assert torch.equal(ours[name], tensor.float().t() if turned else tensor.float()), name


@needs_peak
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reading_needs_memory_for_one_copy_of_the_weights(dtype, config, tmp_path):
    shape = {"n_layer": 6, "n_head": 8, "n_embd": 512, "n_positions": 64, "vocab_size": 2000}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape)).to(dtype)
    theirs.save_pretrained(tmp_path / "large")
    transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_head=1, n_embd=4)).save_pretrained(tmp_path / "s")
    code = (
        "from llmcore.model.folder import load_language_model\n"
        f"load_language_model({str(tmp_path / 's')!r}); before = peak()\n"
        f"load_language_model({str(tmp_path / 'large')!r}); print(peak() - before)"
    )
    [grown] = map(int, run_measured(code))
    largest = max(parameter.numel() for parameter in theirs.parameters())
    one_copy = 4 * sum(parameter.numel() for parameter in theirs.parameters())
    assert one_copy * 0.9 < grown < one_copy + 4 * largest + 8e6


def test_describe_weights_returns_stored_types_and_shapes(folder, gpt):
    found = describe_weights(folder)
    assert found["transformer.h.0.attn.c_attn.weight"] == ("F32", (8, 24))
    assert "lm_head.weight" not in found  # tied: stored once
    assert sum(torch.Size(shape).numel() for _, shape in found.values()) == sum(p.numel() for p in gpt.parameters())


# ---- damaged tensors


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


def test_a_tied_head_that_is_stored_and_equal_is_accepted(folder):
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {"lm_head.weight": tensors["transformer.wte.weight"].clone()}, folder / WEIGHTS)
    assert load_language_model(folder).lm_head.weight.shape == tensors["transformer.wte.weight"].shape


def test_a_missing_untied_head_is_named(folder):
    set_config(folder, tie_word_embeddings=False)
    assert_refused(folder, r"lm_head\.weight .* is missing")


def test_a_nonzero_bias_is_refused_where_the_config_has_none(folder):
    set_config(folder, qkv_bias=False)
    assert_refused(folder, r"h\.0\.attn\.c_attn\.bias must be zero for this config\.json")


# ---- damaged files


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
def test_an_incomplete_safetensors_file_is_named(folder, damage):
    (folder / WEIGHTS).write_bytes(damage((folder / WEIGHTS).read_bytes()))
    assert_refused(folder, r"model\.safetensors: not a complete safetensors file")
    with pytest.raises(UserError, match="not a complete safetensors file"):
        describe_weights(folder)


def test_a_pickle_is_refused_with_a_command_that_converts_it(folder, gpt):
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    message = assert_refused(folder, r"pytorch_model\.bin: a pickle can run any code and is not read")
    command = re.search(r"python -c .+$", message)
    assert command
    _, _, code, *arguments = shlex.split(command[0])
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
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
