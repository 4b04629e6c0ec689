"""Decoding with a cache against the plain way: the whole text again for each token."""

import pytest
import torch
from tiny import CONTEXT, tiny_gpt

from llmcore.base.errors import UserError
from llmcore.config.generation import GenerationConfig
from llmcore.generate.decode import decode
from llmcore.generate.sampling import GREEDY
from llmcore.model.transformer import LanguageModel

WARM = GenerationConfig(1.0, top_k=0, top_p=0.95)
PROMPTS = [[1, 2, 3], [4], [5, 6, 7], [8, 9, 10, 11], [3, 2, 1], [12]]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """Matrices so large that rows differ from each other."""
    gpt = tiny_gpt(dropout=0.5, tied_head=False)
    with torch.no_grad():
        for parameter in gpt.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10)
    return gpt


def written(
    model: LanguageModel,
    prompts: list[list[int]],
    sampling: GenerationConfig = GREEDY,
    *,
    seed: int = 0,
    stop_id: int | None = None,
    max_new_tokens: int = 6,
) -> list[list[int]]:
    return decode(model, prompts, max_new_tokens=max_new_tokens, sampling=sampling, seed=seed, stop_id=stop_id)


@torch.no_grad()
def plainly(model: LanguageModel, prompt: list[int], new_tokens: int) -> list[int]:
    """Greedy continuation without a cache."""
    ids = list(prompt)
    for _ in range(new_tokens):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_cached_greedy_equals_the_whole_text_again(model: LanguageModel) -> None:
    continuations = written(model, PROMPTS)
    assert continuations == [plainly(model.eval(), prompt, 6) for prompt in PROMPTS]
    assert len({tuple(row) for row in continuations}) > 3


def test_dropout_is_off_while_decoding(model: LanguageModel) -> None:
    model.train()
    assert written(model, PROMPTS) == written(model.eval(), PROMPTS)


def test_a_batch_equals_its_rows_alone(model: LanguageModel) -> None:
    assert written(model, PROMPTS) == [written(model, [prompt])[0] for prompt in PROMPTS]


def test_a_row_depends_on_its_place_and_not_on_its_neighbours(model: LanguageModel) -> None:
    alone = [[0], [5, 6, 7], [0]]
    assert written(model, PROMPTS[1:4], WARM)[1] == written(model, alone, WARM)[1]
    twice = written(model, [[1], [1]], WARM)
    assert twice[0] != twice[1]


@pytest.mark.parametrize("sampling", [GREEDY, WARM])
def test_rows_that_stop_at_different_times_are_each_cut_before_the_stop(
    model: LanguageModel, sampling: GenerationConfig
) -> None:
    """A row that ends leaves the batch: caches, generators and answers must stay with their rows."""
    free = written(model, PROMPTS, sampling, max_new_tokens=8)
    stops = {token: sorted({row.index(token) for row in free if token in row}) for row in free for token in row}
    stop_id = max(stops, key=lambda token: len(stops[token]))
    assert len(stops[stop_id]) > 1
    assert any(stop_id not in row for row in free)
    expected = [row[: row.index(stop_id)] if stop_id in row else row for row in free]
    assert written(model, PROMPTS, sampling, stop_id=stop_id, max_new_tokens=8) == expected


def test_the_same_seed_writes_the_same(model: LanguageModel) -> None:
    assert written(model, PROMPTS, WARM, seed=3) == written(model, PROMPTS, WARM, seed=3)
    assert written(model, PROMPTS, WARM, seed=3) != written(model, PROMPTS, WARM, seed=4)
    assert written(model, PROMPTS, GREEDY, seed=3) == written(model, PROMPTS, GREEDY, seed=4)


def test_decoding_draws_nothing_from_the_global_generator(model: LanguageModel) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    written(model, PROMPTS, WARM)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("length", [1, CONTEXT - 3, CONTEXT - 1])
def test_a_full_context_ends_the_text(model: LanguageModel, length: int) -> None:
    [row] = written(model, [[1] * length], max_new_tokens=1000)
    assert row == plainly(model.eval(), [1] * length, CONTEXT - length)


@pytest.mark.parametrize("length", [0, CONTEXT, CONTEXT + 1])
def test_a_prompt_that_is_empty_or_leaves_no_room_is_refused(model: LanguageModel, length: int) -> None:
    with pytest.raises(UserError, match=f"^prompt: must have 1 to {CONTEXT - 1} tokens, got {length}; "):
        written(model, [[1, 2], [1] * length])


def test_no_prompts_no_text(model: LanguageModel) -> None:
    assert written(model, []) == []


def test_a_model_whose_logits_are_not_numbers_is_refused() -> None:
    broken = tiny_gpt()
    with torch.no_grad():
        broken.transformer.ln_f.weight.fill_(torch.nan)
    with pytest.raises(UserError, match=r"^model: its logits must be finite"):
        written(broken, [[1]])
