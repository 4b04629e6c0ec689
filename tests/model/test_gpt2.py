"""GPT-2: its size and its initial weights are the published ones, its table of tensors that of transformers."""

import math
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import transformers
from tiny import classifier_of

from llmcore.model.attention import COPY_GAIN
from llmcore.model.gpt2 import ARCHITECTURE, TENSORS, CausalSelfAttention, GPT2Config
from llmcore.model.registry import new_model
from llmcore.model.transformer import parameter_counts

SIZES = {"small": (12, 12, 768), "medium": (24, 16, 1024), "large": (36, 20, 1280), "xl": (48, 25, 1600)}
THEIRS = {"n_layer": 12, "n_head": 1, "n_embd": 4, "n_positions": 8, "vocab_size": 9}


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("tied_head", [True, False])
def test_parameter_count_equals_the_formula(config, qkv_bias, tied_head):
    model = new_model(replace(config, qkv_bias=qkv_bias, tied_head=tied_head))
    wide = config.n_embd
    layers = config.n_layer
    words = config.vocab_size
    block = 12 * wide**2 + (13 if qkv_bias else 10) * wide  # 4 + 8 matrices; biases 3 + 1 + 4 + 1, two norms 2 + 2
    expected = (words + config.context_length) * wide + layers * block + 2 * wide + (0 if tied_head else words * wide)
    assert parameter_counts(model) == {"parameters": expected, "trained_parameters": expected}


@pytest.mark.parametrize(
    ("size", "qkv_bias", "tied_head", "published"),
    [
        ("small", True, True, 124_439_808),
        ("small", True, False, 163_037_184),
        ("small", False, True, 124_412_160),
        ("small", False, False, 163_009_536),
        ("medium", True, True, 354_823_168),
        ("medium", False, True, 354_749_440),
        ("medium", False, False, 406_212_608),
        ("large", True, True, 774_030_080),
        ("large", False, True, 773_891_840),
        ("large", False, False, 838_220_800),
        ("xl", True, True, 1_557_611_200),
        ("xl", False, True, 1_557_380_800),
        ("xl", False, False, 1_637_792_000),
    ],
)
def test_parameter_counts_are_the_published_ones(size, qkv_bias, tied_head, published):
    n_layer, n_head, n_embd = SIZES[size]
    with torch.device("meta"):
        model = new_model(GPT2Config(50257, 1024, n_layer, n_head, n_embd, 0.1, tied_head=tied_head, qkv_bias=qkv_bias))
    assert parameter_counts(model)["parameters"] == published


def test_a_fresh_model_gives_every_token_about_the_same_probability(config):
    model = new_model(replace(config, n_embd=64))
    model.initialise(torch.Generator().manual_seed(5))
    ids = torch.randint(config.vocab_size, (32, 25), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(config.vocab_size), abs=0.05)


def test_initial_weights_depend_on_the_generator_alone(config, randomised):
    first, second = new_model(config), randomised(new_model(config))
    first.initialise(torch.Generator().manual_seed(7))
    state = torch.random.get_rng_state()
    second.initialise(torch.Generator().manual_seed(7))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_initial_weights_have_the_spread_of_gpt2(config):
    model = new_model(replace(config, n_embd=128, tied_head=False))
    model.initialise(torch.Generator().manual_seed(8))
    for name, parameter in model.named_parameters():
        if "attn" in name and parameter.ndim == 2:
            continue
        if parameter.ndim == 2:
            spread = 0.02 / math.sqrt(2 * config.n_layer) if "c_proj" in name else 0.02
            assert parameter.std().item() == pytest.approx(spread, rel=0.05), name
            assert parameter.mean().item() == pytest.approx(0.0, abs=1e-3), name
        else:
            assert torch.equal(parameter, torch.full_like(parameter, "bias" not in name)), name


def test_attention_begins_by_copying_what_it_reads(config):
    model = new_model(replace(config, n_embd=128))
    model.initialise(torch.Generator().manual_seed(8))
    attentions = [module for module in model.modules() if isinstance(module, CausalSelfAttention)]
    assert len(attentions) == config.n_layer
    for attention in attentions:
        query_and_key, value = attention.c_attn.weight.split([256, 128])
        assert query_and_key.std().item() == pytest.approx(0.02, rel=0.05)
        assert value.std().item() == pytest.approx(0.02 * COPY_GAIN, rel=0.05)
        product = attention.c_proj.weight @ value
        diagonal = product.diagonal()
        others = product - diagonal.diag()
        assert diagonal.mean() > 5 * others.std()


def test_the_table_lists_exactly_our_tensors(config):
    models = (new_model(config), classifier_of(config))
    assert {re.sub(r"\.\d+\.", ".{}.", name) for model in models for name in model.state_dict()} == set(TENSORS)


@pytest.mark.parametrize("kind", [transformers.GPT2LMHeadModel, transformers.GPT2ForSequenceClassification])
def test_names_and_stored_shapes_are_those_of_transformers(kind):
    theirs = {
        name: tuple(tensor.shape) for name, tensor in kind(transformers.GPT2Config(**THEIRS)).state_dict().items()
    }
    config = ARCHITECTURE.config_from_json(transformers.GPT2Config(**THEIRS).to_dict(), "")
    ours = new_model(config) if kind is transformers.GPT2LMHeadModel else classifier_of(config, max_tokens=8)
    shapes = {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()}
    assert {name: ARCHITECTURE.stored_shape(name, shape) for name, shape in shapes.items()} == theirs


def test_a_config_survives_the_round_trip_through_json(config):
    assert ARCHITECTURE.config_from_json(ARCHITECTURE.config_to_json(config, config.vocab_size - 1), "") == config
