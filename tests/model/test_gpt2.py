"""The LanguageModel computes what its definition says, sees no future, and starts where GPT-2 starts."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from structure import ROOT

from llmcore.model.attention import explicit_attention, fused_attention
from llmcore.model.cache import Cache
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.transformer import LanguageModel, parameter_counts

SIZES = {"small": (12, 12, 768), "medium": (24, 16, 1024), "large": (36, 20, 1280), "xl": (48, 25, 1600)}


@pytest.mark.parametrize(("time", "seen"), [(7, 7), (1, 1), (1, 7), (3, 7), (6, 7)])
def test_fused_attention_equals_the_explicit_one_forward_and_backward(time, seen):
    generator = torch.Generator().manual_seed(1)
    shapes = [(2, 3, time, 4), (2, 3, seen, 4), (2, 3, seen, 4)]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    query, key, value = inputs
    seed = torch.randn(shapes[0], generator=generator, dtype=torch.float64)
    explicit, fused = explicit_attention(query, key, value, 0.0), fused_attention(query, key, value, 0.0)
    torch.testing.assert_close(fused, explicit, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(outcome, inputs, seed) for outcome in (explicit, fused)]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-12)


def test_attention_equals_a_loop_over_positions():
    generator = torch.Generator().manual_seed(2)
    query, key, value = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    expected = [(query[t] @ key[: t + 1].T / math.sqrt(4)).softmax(-1) @ value[: t + 1] for t in range(5)]
    found = explicit_attention(query[None, None], key[None, None], value[None, None], dropout=0.0)[0, 0]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-12)


def test_explicit_attention_drops_weights_only_when_asked():
    ones = torch.ones(1, 1, 50, 4)
    assert torch.equal(explicit_attention(ones, ones, ones, dropout=1.0), torch.zeros_like(ones))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_changing_a_token_leaves_earlier_logits_unchanged_and_moves_its_own(data, causal_gpt):
    size = causal_gpt.config.vocab_size
    ids = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=causal_gpt.config.context_length))
    place = data.draw(st.integers(0, len(ids) - 1))
    other = [*ids[:place], (ids[place] + 1) % size, *ids[place + 1 :]]
    with torch.no_grad():
        before, after = causal_gpt(torch.tensor([ids, other]))  # each (T, V)
    torch.testing.assert_close(before[:place], after[:place], rtol=0, atol=1e-6)
    assert not torch.allclose(before[place], after[place])


@settings(max_examples=25, deadline=None)
@given(cuts=st.sets(st.integers(1, 23)))
def test_logits_with_a_cache_equal_those_without_wherever_the_text_is_cut(cuts, causal_gpt):
    ids = torch.randint(causal_gpt.config.vocab_size, (2, 24), generator=torch.Generator().manual_seed(3))
    cache, edges = new_cache(causal_gpt, ids.shape), [0, *sorted(cuts), 24]
    with torch.no_grad():
        parts = [causal_gpt(ids[:, a:b], cache) for a, b in pairwise(edges)]
        torch.testing.assert_close(torch.cat(parts, dim=1), causal_gpt(ids), rtol=0, atol=1e-5)
    assert cache.seen_tokens == 24


def test_a_cache_goes_on_with_the_rows_that_are_kept(gpt):
    ids = torch.randint(gpt.config.vocab_size, (3, 9), generator=torch.Generator().manual_seed(4))
    cache, rows = new_cache(gpt, ids.shape), torch.tensor([2, 0])
    with torch.no_grad():
        gpt(ids[:, :8], cache)
        cache.keep(rows)
        torch.testing.assert_close(gpt(ids[rows, 8:], cache)[:, -1], gpt(ids)[rows, -1], rtol=0, atol=1e-5)


def test_a_full_cache_takes_no_further_token(gpt):
    cache = new_cache(gpt, torch.Size((1, 4)))
    with torch.no_grad():
        gpt(torch.zeros(1, 4, dtype=torch.long), cache)
        with pytest.raises(AssertionError):
            gpt(torch.zeros(1, 1, dtype=torch.long), cache)


def test_dropout_acts_in_training_only(config):
    model = new_model(replace(config, dropout=0.5))
    model.initialise(torch.Generator().manual_seed(0))
    ids = torch.arange(24)[None]
    assert not torch.equal(model.train()(ids), model(ids))
    assert torch.equal(model.eval()(ids), model(ids))


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("tied_head", [True, False])
def test_parameter_count_equals_the_formula(config, qkv_bias, tied_head):
    model = new_model(replace(config, qkv_bias=qkv_bias, tied_head=tied_head))
    wide, layers, words = config.n_embd, config.n_layer, config.vocab_size
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
def test_parameter_counts_of_gpt2_are_the_published_ones(size, qkv_bias, tied_head, published):
    n_layer, n_head, n_embd = SIZES[size]
    with torch.device("meta"):
        model = new_model(GPT2Config(50257, 1024, n_layer, n_head, n_embd, 0.1, qkv_bias, tied_head))
    assert parameter_counts(model)["parameters"] == published


def test_a_shape_without_memory_loads_no_more_of_torch():
    """Drawing numbers on the meta device would import 800 of torch's modules, a second at every start."""
    code = (
        "import sys, torch; from llmcore.model.gpt import LanguageModel, GPT2Config; before = set(sys.modules)\n"
        "with torch.device('meta'): new_model(GPT2Config(10, 8, 1, 1, 4, 0.0, True, True))\n"
        "assert set(sys.modules) - before <= {'torch.utils._device'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("context_length", [1, 10, 24])
def test_a_cut_context_leaves_the_logits_of_what_still_fits(gpt, context_length):
    ids = torch.arange(context_length)[None]
    before, whole = gpt(ids), gpt.transformer.wpe.weight.clone()
    gpt.cut_context(context_length)
    assert gpt.config.context_length == context_length
    assert torch.equal(gpt.transformer.wpe.weight, whole[:context_length])
    assert gpt.transformer.wpe.weight.requires_grad
    assert torch.equal(gpt(ids), before)


def test_a_fresh_model_gives_every_token_about_the_same_probability(config):
    model = new_model(replace(config, n_embd=64))
    model.initialise(torch.Generator().manual_seed(5))
    ids = torch.randint(config.vocab_size, (32, 25), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(config.vocab_size), abs=0.05)


def test_initial_weights_are_a_function_of_the_generator_alone(config, randomised):
    first, second = new_model(config), randomised(new_model(config))
    first.initialise(torch.Generator().manual_seed(7))
    state = torch.random.get_rng_state()
    second.initialise(torch.Generator().manual_seed(7))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_initial_weights_are_spread_as_gpt2s(config):
    model = new_model(replace(config, n_embd=128, tied_head=False))
    model.initialise(torch.Generator().manual_seed(8))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            spread = 0.02 / math.sqrt(2 * config.n_layer) if "c_proj" in name else 0.02
            assert parameter.std().item() == pytest.approx(spread, rel=0.05), name
            assert parameter.mean().item() == pytest.approx(0.0, abs=1e-3), name
        else:
            assert torch.equal(parameter, torch.full_like(parameter, "bias" not in name)), name


def test_attention_maps_are_the_weights_with_which_each_block_gathers(gpt):
    ids = torch.randint(gpt.config.vocab_size, (3, 10), generator=torch.Generator().manual_seed(9))
    maps = gpt.attention_maps(ids)
    assert maps.shape == (2, 3, 2, 10, 10)  # layers, batch, heads, queries, keys
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3, 2, 10))
    assert torch.equal(maps, maps.tril())
    with torch.no_grad():
        for layer, block in enumerate(gpt.transformer.h):
            entering = block.ln_1(list(gpt.transformer.states(ids))[layer])
            gathered = maps[layer] @ block.attn.heads(entering)[2]  # (B, H, T, D)
            rebuilt = block.attn.c_proj(torch.cat(gathered.unbind(1), dim=-1))  # (B, T, C)
            torch.testing.assert_close(rebuilt, block.attn(entering), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def causal_gpt(config, randomised) -> LanguageModel:
    """Shared by the cases of a hypothesis test, which changes nothing in it."""
    return randomised(new_model(config), seed=1)


def new_cache(model: LanguageModel, ids_shape: torch.Size) -> Cache:
    config, (batch, tokens) = model.config, ids_shape
    shape = (batch, config.n_head, tokens, config.n_embd // config.n_head)
    return Cache.empty(n_layer=config.n_layer, shape=shape, like=model.lm_head.weight)
