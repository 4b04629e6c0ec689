"""With the key-value cache, a text that is read in pieces gives the logits of the whole."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import llama_config

from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel


@settings(max_examples=25, deadline=None)
@given(cuts=st.sets(st.integers(1, 23)))
def test_logits_with_a_cache_equal_those_without_it_wherever_the_text_is_split(cuts, shared_gpt):
    ids = torch.randint(shared_gpt.config.vocab_size, (2, 24), generator=torch.Generator().manual_seed(3))
    cache = shared_gpt.new_cache(2, 24)
    edges = [0, *sorted(cuts), 24]
    with torch.no_grad():
        parts = [shared_gpt(ids[:, a:b], cache=cache) for a, b in pairwise(edges)]
        torch.testing.assert_close(torch.cat(parts, dim=1), shared_gpt(ids), rtol=0, atol=1e-5)
    assert cache.seen_tokens == 24


def test_selected_rows_continue_as_before(gpt):
    ids = torch.randint(gpt.config.vocab_size, (3, 9), generator=torch.Generator().manual_seed(4))
    cache = gpt.new_cache(3, 9)
    rows = [2, 0]
    with torch.no_grad():
        gpt(ids[:, :8], cache=cache)
        cache.select_rows(rows)
        torch.testing.assert_close(gpt(ids[rows, 8:], cache=cache)[:, -1], gpt(ids)[rows, -1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("began_in", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_texts_of_different_lengths_continue_under_autocast(gpt, randomised, kind, began_in):
    """As `precision: bf16` evaluates; the cache may have been allocated outside, in fp32."""
    model = gpt if kind == "gpt2" else randomised(new_model(llama_config()), seed=1)
    draw = torch.Generator().manual_seed(4)
    texts = [torch.randint(model.config.vocab_size, (length,), generator=draw) for length in (3, 7, 5)]
    with torch.no_grad():
        exact = torch.stack([model(text[None])[0, -1] for text in texts])
        with torch.autocast("cpu", torch.bfloat16, enabled=began_in == torch.bfloat16):
            cache = model.new_cache(1, 8).empty_like(3, 8)
            alone = [model.new_cache(1, 8) for _ in texts]
        assert cache.layers[0].keys.dtype == began_in
        with torch.autocast("cpu", torch.bfloat16):
            for text, its in zip(texts, alone, strict=True):
                model(text[None, :-1], cache=its)
                cache.add_row(its)
            logits = model(torch.stack([text[-1:] for text in texts]), cache=cache)[:, -1]
            assert (logits - exact).norm() < 0.05 * exact.norm()
        cache = cache.copy_row(0, 5)
        model(texts[0][None, -1:], cache=cache)  # in fp32 again, whatever the cache holds


def test_a_full_cache_refuses_another_token(gpt):
    cache = gpt.new_cache(1, 4)
    with torch.no_grad():
        gpt(torch.zeros(1, 4, dtype=torch.long), cache=cache)
        with pytest.raises(AssertionError, match="the cache is full"):
            gpt(torch.zeros(1, 1, dtype=torch.long), cache=cache)


@pytest.fixture(scope="module")
def shared_gpt(config, randomised) -> LanguageModel:
    """Shared by the cases of a hypothesis test, which does not change it."""
    return randomised(new_model(config), seed=1)
