"""The table of GPT-2's tensors has a row for each of ours and of transformers', and none more."""

import re

import pytest
import torch
import transformers

from llmcore.model.classifier import SequenceClassifier
from llmcore.model.gpt2 import TENSORS
from llmcore.model.gpt2_format import config_from_gpt2, config_to_gpt2, our_name, stored_shape, transposed

THEIRS = {"n_layer": 12, "n_head": 1, "n_embd": 4, "n_positions": 8, "vocab_size": 9}


def row(name: str) -> str:
    return re.sub(r"\.\d+\.", ".{}.", name)


def test_the_table_has_a_row_for_every_tensor_of_ours_and_none_more(config):
    models = (new_model(config), SequenceClassifier(config, ["ham", "spam"], "last_real", 20))
    assert {row(name) for model in models for name in model.state_dict()} == set(TENSORS)


@pytest.mark.parametrize("kind", [transformers.GPT2LMHeadModel, transformers.GPT2ForSequenceClassification])
def test_names_and_stored_shapes_are_those_of_transformers(kind):
    theirs = {
        name: tuple(tensor.shape) for name, tensor in kind(transformers.GPT2Config(**THEIRS)).state_dict().items()
    }
    config = config_from_gpt2(transformers.GPT2Config(**THEIRS).to_dict(), "")
    ours = (
        new_model(config)
        if kind is transformers.GPT2LMHeadModel
        else SequenceClassifier(config, ["a", "b"], "last_real", 8)
    )
    assert {name: stored_shape(name, tuple(tensor.shape)) for name, tensor in ours.state_dict().items()} == theirs


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("h.11.attn.c_attn.weight", "transformer.h.11.attn.c_attn.weight"),
        ("transformer.h.11.attn.c_attn.weight", "transformer.h.11.attn.c_attn.weight"),
        ("wte.weight", "transformer.wte.weight"),
        ("ln_f.bias", "transformer.ln_f.bias"),
        ("lm_head.weight", "lm_head.weight"),
        ("score.weight", "score.weight"),
        ("h.0.attn.bias", None),
        ("transformer.h.0.attn.masked_bias", None),
        ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("h.0.attn.q_attn.weight", "h.0.attn.q_attn.weight"),
        ("h.x.ln_1.bias", "h.x.ln_1.bias"),
    ],
)
def test_a_key_has_our_name_with_or_without_the_prefix_and_an_unknown_one_keeps_its_own(key, name):
    assert our_name(key) == name


def test_turning_twice_gives_the_tensor_back():
    for name in (row.format(0) for row in TENSORS):
        tensor = torch.arange(6).reshape(2, 3)
        assert torch.equal(transposed(name, transposed(name, tensor)), tensor)
        assert tuple(transposed(name, tensor).shape) == stored_shape(name, (2, 3))


def test_settings_go_out_and_come_back(config):
    assert config_from_gpt2(config_to_gpt2(config, config.vocab_size - 1), "") == config
