"""An architecture's entry translates names, orientations and shapes between the stored form and ours."""

import pytest
import torch

from llmcore.base.errors import UserError
from llmcore.model.gpt2 import TENSORS
from llmcore.model.registry import ARCHITECTURES, architecture

GPT2 = architecture("gpt2")


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
def test_a_known_key_has_our_name_with_or_without_the_prefix_and_an_unknown_key_is_unchanged(key, name):
    assert GPT2.our_name(key) == name


def test_transposing_twice_gives_the_tensor_back():
    for name in (row.format(0) for row in TENSORS):
        tensor = torch.arange(6).reshape(2, 3)
        stored = GPT2.transpose(name, tensor)
        assert torch.equal(GPT2.transpose(name, stored), tensor)
        assert tuple(stored.shape) == GPT2.stored_shape(name, (2, 3))
        assert (tuple(stored.shape) == (3, 2)) == TENSORS[name.replace(".0.", ".{}.")].transposed


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("transformer.wte.weight", "token embedding"),
        ("transformer.h.11.attn.c_attn.weight", "attention"),
        ("score.weight", "head"),
        ("h.x.ln_1.bias", "other"),
    ],
)
def test_each_tensor_belongs_to_a_part_of_the_model(name, part):
    assert GPT2.part(name) == part


def test_the_registry_finds_each_architecture_by_its_model_type():
    assert {name: entry.model_type for name, entry in ARCHITECTURES.items()} == {name: name for name in ARCHITECTURES}


@pytest.mark.parametrize("model_type", ["bert", None, 3, ["gpt2"]])
def test_an_unknown_model_type_is_refused(model_type):
    with pytest.raises(UserError, match=r"^config\.json: model_type must be 'gpt2', 'llama', .*, got "):
        architecture(model_type, "config.json")
