"""Choosing a token from logits equals plain reference computations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import generation
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.config.generation import GenerationConfig
from llmcore.generate.sampling import choose, keep_top_k, keep_top_p

GREEDY = generation()

# few different values, so that ties are common
some_logits = st.lists(st.integers(-8, 8).map(lambda n: n / 2), min_size=1, max_size=12).map(torch.tensor)


def draw(logits: Tensor, config: GenerationConfig, seed: int = 0) -> int:
    return int(choose(logits, config, torch.Generator().manual_seed(seed)))


def kept(logits: Tensor) -> list[int]:
    return (logits > -torch.inf).nonzero().flatten().tolist()


@settings(deadline=None)
@given(logits=some_logits, seed=st.integers(0, 5))
def test_temperature_0_takes_the_likeliest_and_ignores_the_seed(logits: Tensor, seed: int) -> None:
    token = draw(logits, GREEDY, seed)
    assert token == draw(logits, GREEDY)
    assert logits[token] == logits.max()


@settings(deadline=None)
@given(logits=st.lists(st.integers(-50, 50), min_size=1, max_size=12, unique=True), seed=st.integers(0, 5))
def test_top_k_1_equals_greedy(logits: list[int], seed: int) -> None:
    scores = torch.tensor(logits, dtype=torch.float32)
    assert draw(scores, generation(temperature=1.0, top_k=1), seed) == draw(scores, GREEDY)


@settings(deadline=None)
@given(logits=some_logits, top_k=st.integers(1, 14))
def test_top_k_keeps_exactly_k_and_drops_none_that_is_larger(logits: Tensor, top_k: int) -> None:
    left = keep_top_k(logits, top_k)
    places = kept(left)
    assert len(places) == min(top_k, len(logits))
    assert torch.equal(left[places], logits[places])
    others = [value for place, value in enumerate(logits.tolist()) if place not in places]
    assert not others or max(others) <= left[places].min()


@settings(deadline=None)
@given(logits=some_logits, top_p=st.floats(0.01, 0.99))
def test_top_p_keeps_the_likeliest_until_they_reach_it(logits: Tensor, top_p: float) -> None:
    weights = [math.exp(value) for value in logits.tolist()]
    probabilities = [weight / sum(weights) for weight in weights]
    places = kept(keep_top_p(logits.double(), top_p))
    chances = [probabilities[place] for place in places]
    assert sum(chances) >= top_p - 1e-9  # the one that crosses is kept
    assert sum(chances) - min(chances) < top_p + 1e-9  # and none behind it
    others = [probability for place, probability in enumerate(probabilities) if place not in places]
    assert not others or max(others) <= min(chances) + 1e-9


def test_top_p_of_four_known_probabilities() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert [kept(keep_top_p(logits, p)) for p in (0.1, 0.5, 0.6, 0.9, 0.97)] == [
        [0],
        [0],
        [0, 1],
        [0, 1, 2],
        [0, 1, 2, 3],
    ]
    assert torch.equal(keep_top_p(logits, 1.0), logits)


def test_each_row_of_a_batch_is_filtered_alone() -> None:
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(keep_top_k(logits, 4), torch.stack([keep_top_k(row, 4) for row in logits]))
    assert torch.equal(keep_top_p(logits, 0.7), torch.stack([keep_top_p(row, 0.7) for row in logits]))


def test_temperature_is_applied_before_top_p() -> None:
    """At a high temperature more tokens are needed to reach the same share."""
    logits = torch.tensor([4.0, 0.0, 0.0, 0.0])
    drawn = {draw(logits, generation(temperature=100.0, top_p=0.9), seed) for seed in range(60)}
    assert drawn == {0, 1, 2, 3}
    assert {draw(logits, generation(temperature=1.0, top_p=0.9), seed) for seed in range(60)} == {0}


def test_tokens_are_drawn_with_their_probabilities() -> None:
    logits = torch.tensor([0.6, 0.3, 0.1]).log() * 2
    generator = torch.Generator().manual_seed(0)
    drawn = [int(choose(logits, generation(temperature=2.0), generator)) for _ in range(4000)]
    shares = torch.tensor([drawn.count(token) / 4000 for token in range(3)])
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.3, 0.1]), rtol=0, atol=0.03)


@pytest.mark.parametrize("temperature", [5e-324, 1e-45, 1e-9, 1e300])
def test_no_temperature_overflows(temperature: float) -> None:
    token = draw(torch.tensor([90.0, 100.0, -100.0]), generation(temperature=temperature, top_p=0.9))
    assert token == 1 or temperature > 1


@pytest.mark.parametrize("config", [GREEDY, generation(temperature=1.0, top_k=2, top_p=0.9)])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(config: GenerationConfig, bad: float) -> None:
    with pytest.raises(UserError, match=r"^model: its logits must be finite, got NaN or infinity; "):
        draw(torch.tensor([0.0, bad, 1.0]), config)
