"""What holds for a language model as a whole: causality, dropout, cropping, attention maps."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from structure import ROOT

from llmcore.model.attention import layout_of
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_changed_token_changes_its_own_logits_and_no_earlier_ones(data, shared_gpt):
    size = shared_gpt.config.vocab_size
    ids = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=shared_gpt.config.context_length))
    place = data.draw(st.integers(0, len(ids) - 1))
    other = [*ids[:place], (ids[place] + 1) % size, *ids[place + 1 :]]
    with torch.no_grad():
        before, after = shared_gpt(torch.tensor([ids, other]))  # each (T, V)
    torch.testing.assert_close(before[:place], after[:place], rtol=0, atol=1e-6)
    assert not torch.allclose(before[place], after[place])


def test_dropout_acts_only_in_training(config):
    model = new_model(replace(config, dropout=0.5))
    model.initialise(torch.Generator().manual_seed(0))
    ids = torch.arange(24)[None]
    assert not torch.equal(model.train()(ids), model(ids))
    assert torch.equal(model.eval()(ids), model(ids))


def test_a_model_on_the_meta_device_imports_no_more_of_torch():
    """Drawing numbers on the meta device would import 800 of torch's modules, a second at every start."""
    code = (
        "import sys, torch; from llmcore.model.registry import new_model; from llmcore.model.gpt2 import GPT2Config\n"
        "before = set(sys.modules)\n"
        "with torch.device('meta'): new_model(GPT2Config(10, 8, 1, 1, 4, 0.0, tied_head=True, qkv_bias=True))\n"
        "assert set(sys.modules) - before <= {'torch.utils._device'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("context_length", [1, 10, 24])
def test_cropping_the_context_keeps_the_logits_of_texts_that_fit(gpt, context_length):
    ids = torch.arange(context_length)[None]
    before = gpt(ids)
    whole = gpt.transformer.wpe.weight.clone()
    gpt.crop_context(context_length)
    assert gpt.config.context_length == context_length
    assert torch.equal(gpt.transformer.wpe.weight, whole[:context_length])
    assert gpt.transformer.wpe.weight.requires_grad
    assert torch.equal(gpt(ids), before)


def test_attention_maps_are_the_weights_with_which_each_block_gathers(gpt):
    ids = torch.randint(gpt.config.vocab_size, (3, 10), generator=torch.Generator().manual_seed(9))
    maps = gpt.attention_maps(ids)
    assert maps.shape == (2, 3, 2, 10, 10)  # layers, batch, heads, queries, keys
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3, 2, 10))
    assert torch.equal(maps, maps.tril())
    with torch.no_grad():
        for layer, block in enumerate(gpt.transformer.h):
            entering = block.ln_1(gpt.body.hidden_states(ids)[layer])
            gathered = maps[layer] @ block.attn.heads(entering)[2]  # (B, H, T, D)
            rebuilt = block.attn.c_proj(torch.cat(gathered.unbind(1), dim=-1))  # (B, T, C)
            torch.testing.assert_close(rebuilt, block.attn(entering, layout_of(ids)), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def shared_gpt(config, randomised) -> LanguageModel:
    """Shared by the cases of a hypothesis test, which does not change it."""
    return randomised(new_model(config), seed=1)
