"""Decoding with a cache equals reading the whole text again for each token."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import CONTEXT, generation, tiny_gpt

from llmcore.base.errors import UserError
from llmcore.config.generation import GenerationConfig
from llmcore.generate.decode import decode
from llmcore.model.transformer import LanguageModel

GREEDY = generation()
SAMPLED = generation(temperature=1.0, top_p=0.95)
PROMPTS = [[1, 2, 3], [4], [5, 6, 7], [8, 9, 10, 11], [3, 2, 1], [12]]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """Weights so large that the continuations differ from each other."""
    gpt = tiny_gpt(dropout=0.5, seed=2, tied_head=False)
    with torch.no_grad():
        for parameter in gpt.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10)
    return gpt


def generated(
    model: LanguageModel,
    prompts: list[list[int]],
    config: GenerationConfig = GREEDY,
    *,
    stop_ids: Collection[int] = (),
    **changes: Any,
) -> list[list[int]]:
    return [found.ids for found in decode(model, prompts, replace(config, **changes), stop_ids=stop_ids)]


@torch.no_grad()
def without_cache(model: LanguageModel, prompt: list[int], new_tokens: int) -> list[int]:
    """Greedy continuation without a cache."""
    ids = list(prompt)
    for _ in range(new_tokens):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_greedy_decoding_with_a_cache_equals_that_without(model: LanguageModel) -> None:
    continuations = generated(model, PROMPTS)
    assert continuations == [without_cache(model.eval(), prompt, 6) for prompt in PROMPTS]
    assert len({tuple(row) for row in continuations}) > 3


def test_dropout_is_off_while_decoding(model: LanguageModel) -> None:
    model.train()
    assert generated(model, PROMPTS) == generated(model.eval(), PROMPTS)


def test_a_batch_gives_the_continuations_of_its_rows_alone(model: LanguageModel) -> None:
    assert generated(model, PROMPTS) == [generated(model, [prompt])[0] for prompt in PROMPTS]


def test_a_continuation_depends_on_its_place_in_the_batch_and_not_on_the_other_rows(model: LanguageModel) -> None:
    alone = [[0], [5, 6, 7], [0]]
    assert generated(model, PROMPTS[1:4], SAMPLED)[1] == generated(model, alone, SAMPLED)[1]
    twice = generated(model, [[1], [1]], SAMPLED)
    assert twice[0] != twice[1]


@pytest.mark.parametrize("config", [GREEDY, SAMPLED])
def test_each_row_ends_before_its_own_stop_token(model: LanguageModel, config: GenerationConfig) -> None:
    """A row that ends leaves the batch: caches, generators and continuations must stay with their rows."""
    free = generated(model, PROMPTS, config, max_new_tokens=8)
    stops = {token: sorted({row.index(token) for row in free if token in row}) for row in free for token in row}
    stop_id = max(stops, key=lambda token: len(stops[token]))
    assert len(stops[stop_id]) > 1
    assert any(stop_id not in row for row in free)
    expected = [row[: row.index(stop_id)] if stop_id in row else row for row in free]
    assert generated(model, PROMPTS, config, stop_ids={stop_id}, max_new_tokens=8) == expected


def test_the_same_seed_gives_the_same_continuations(model: LanguageModel) -> None:
    assert generated(model, PROMPTS, SAMPLED, seed=3) == generated(model, PROMPTS, SAMPLED, seed=3)
    assert generated(model, PROMPTS, SAMPLED, seed=3) != generated(model, PROMPTS, SAMPLED, seed=4)
    assert generated(model, PROMPTS, GREEDY, seed=3) == generated(model, PROMPTS, GREEDY, seed=4)


def test_decoding_draws_nothing_from_the_global_generator(model: LanguageModel) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    generated(model, PROMPTS, SAMPLED)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("length", [1, CONTEXT - 3, CONTEXT - 1])
def test_a_full_context_ends_the_continuation(model: LanguageModel, length: int) -> None:
    [row] = generated(model, [[1] * length], max_new_tokens=1000)
    assert row == without_cache(model.eval(), [1] * length, CONTEXT - length)


@pytest.mark.parametrize("length", [0, CONTEXT, CONTEXT + 1])
def test_a_prompt_that_is_empty_or_fills_the_context_is_refused(model: LanguageModel, length: int) -> None:
    with pytest.raises(UserError, match=f"^prompt: must have 1 to {CONTEXT - 1} tokens, got {length}; "):
        generated(model, [[1, 2], [1] * length])


def test_without_prompts_there_are_no_continuations(model: LanguageModel) -> None:
    assert generated(model, []) == []


def test_a_model_whose_logits_are_not_finite_is_refused() -> None:
    broken = tiny_gpt()
    with torch.no_grad():
        broken.get_parameter("transformer.ln_f.weight").fill_(torch.nan)
    with pytest.raises(UserError, match=r"^model: its logits must be finite"):
        generated(broken, [[1]])
