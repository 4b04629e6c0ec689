"""The decoding loop: rows that join and leave, chunks of prompts, kept prefixes, guesses from the prompt."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import generation, llama_config, tiny_gpt

from llmcore.base.errors import UserError
from llmcore.base.seeds import torch_generator
from llmcore.config.generation import GenerationConfig
from llmcore.generate import decoder as decoder_module
from llmcore.generate.decode import decode, stream
from llmcore.generate.decoder import Decoder, NewToken
from llmcore.generate.prompt_lookup import lookup
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel

GREEDY = generation(20)
SAMPLED = generation(20, temperature=1.0, top_p=0.95, seed=5)
DRAW = torch.Generator().manual_seed(1)
LENGTHS = [3, 9, 1, 30, 12, 12, 5, 41]
PROMPTS = [torch.randint(0, 30, (length,), generator=DRAW).tolist() for length in LENGTHS]


def lively(model: LanguageModel) -> LanguageModel:
    """Make weights so large that the continuations differ from each other."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model.eval()


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    if request.param == "llama":
        made = new_model(replace(llama_config(), vocab_size=32, context_length=64))
    else:
        made = new_model(GPT2Config(32, 64, 2, 2, 16, dropout=0.0, tied_head=False, qkv_bias=True))
    made.initialise(torch_generator(3, "initialise"))
    return lively(made)


def alone(model: LanguageModel, prompt: list[int], config: GenerationConfig, place: int = 0) -> list[int]:
    """Continue one prompt without any other, its draws those of continuation `place`."""
    decoder = Decoder(model, 1)
    decoder.add(["x"], prompt, config, stop_ids=(), place=place)
    return [new.token for new in drained(decoder)]


def drained(decoder: Decoder) -> list[NewToken]:
    found = []
    while decoder.busy:
        found += decoder.step()
    return found


def by_key(found: list[NewToken]) -> dict[object, list[int]]:
    rows: dict[object, list[int]] = {}
    for new in found:
        rows.setdefault(new.key, []).append(new.token)
    return rows


@pytest.mark.parametrize("config", [GREEDY, SAMPLED])
@pytest.mark.parametrize("max_rows", [1, 3, 8])
def test_rows_that_join_at_any_moment_are_continued_as_alone(
    model: LanguageModel, config: GenerationConfig, max_rows: int
) -> None:
    decoder = Decoder(model, max_rows)
    found: list[NewToken] = []
    for number, prompt in enumerate(PROMPTS):
        decoder.add([number], prompt, config, stop_ids={31})
        for _ in range(number % 4):
            found += decoder.step()
    rows = by_key(found + drained(decoder))
    for number, prompt in enumerate(PROMPTS):
        expected = alone(model, prompt, config)
        expected = expected[: expected.index(31) + 1] if 31 in expected else expected
        assert rows[number] == expected


def test_a_removed_row_leaves_the_others_as_they_are(model: LanguageModel) -> None:
    decoder = Decoder(model, 4)
    for number, prompt in enumerate(PROMPTS):
        decoder.add([number], prompt, SAMPLED, stop_ids=())
    found = decoder.step()
    for number in (1, 0, 7, 99):  # written, waiting, unknown
        decoder.remove(number)
    rows = by_key(found + drained(decoder))
    for number in (2, 3, 4, 5, 6):
        assert rows[number] == alone(model, PROMPTS[number], SAMPLED)
    assert len(rows.get(7, [])) == 0


def test_last_row_moves_to_the_place_of_a_removed_one(model: LanguageModel) -> None:
    decoder = Decoder(model, 3)
    decoder.add(range(3), PROMPTS[1], SAMPLED, stop_ids=())
    found = decoder.step()
    decoder.remove(0)
    rows = by_key(found + drained(decoder))
    for number in (1, 2):
        assert rows[number] == alone(model, PROMPTS[1], SAMPLED, place=number)


def test_a_row_removed_while_its_prompt_is_read_never_begins(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "PREFILL_TOKENS", 4)
    decoder = Decoder(model, 4)
    decoder.add(["a"], PROMPTS[7], GREEDY, stop_ids=())
    assert decoder.step() == []
    decoder.remove("a")
    assert not decoder.busy
    assert drained(decoder) == []


@pytest.mark.parametrize("chunk_tokens", [1, 7, 16])
def test_prompts_read_in_chunks_are_continued_as_those_read_at_once(
    model: LanguageModel, chunk_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [alone(model, prompt, SAMPLED, place) for place, prompt in enumerate(PROMPTS)]
    assert [found.ids for found in decode(model, PROMPTS, SAMPLED, stop_ids=())] == expected
    monkeypatch.setattr(decoder_module, "PREFILL_TOKENS", chunk_tokens)
    assert [found.ids for found in decode(model, PROMPTS, SAMPLED, stop_ids=())] == expected


def test_others_go_on_while_a_long_prompt_is_read(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "PREFILL_TOKENS", 4)
    decoder = Decoder(model, 4)
    decoder.add(["first"], PROMPTS[2], GREEDY, stop_ids=())
    decoder.step()
    decoder.add(["long"], PROMPTS[7], GREEDY, stop_ids=())
    for _ in range(5):
        assert [new.key for new in decoder.step()] == ["first"]


def test_a_kept_prefix_is_not_read_again_and_changes_nothing(model: LanguageModel) -> None:
    decoder = Decoder(model, 2, kept_prefixes=2)
    decoder.add(["one"], PROMPTS[3], generation(6), stop_ids=())
    answer = [new.token for new in drained(decoder)]
    longer = [*PROMPTS[3], *answer, 4, 2]
    read: list[int] = []
    handle = model.body.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[1]))
    decoder.add(["two"], longer, SAMPLED, stop_ids=())
    found = [new.token for new in drained(decoder)]
    handle.remove()
    assert read[0] == 3  # the last token of the answer was never read, and two are new
    assert found == alone(model, longer, SAMPLED)
    decoder.add(["other"], PROMPTS[7], GREEDY, stop_ids=())
    assert [new.token for new in drained(decoder)] == alone(model, PROMPTS[7], GREEDY)


def test_several_samples_of_a_prompt_are_those_of_the_prompt_given_several_times(model: LanguageModel) -> None:
    together = [found.ids for found in decode(model, PROMPTS[:2], replace(SAMPLED, n=3), stop_ids=())]
    repeated = [PROMPTS[0]] * 3 + [PROMPTS[1]] * 3
    assert together == [found.ids for found in decode(model, repeated, SAMPLED, stop_ids=())]
    assert len(set(map(tuple, together))) > 3


@pytest.mark.parametrize("length", [1, 40, 62, 63])
def test_a_full_context_ends_a_row_and_says_so(model: LanguageModel, length: int) -> None:
    prompt = (PROMPTS[7] * 2)[:length]
    [found] = decode(model, [prompt], generation(1000), stop_ids=())
    assert (len(found.ids), found.finish_reason) == (64 - length, "context")
    ids = list(prompt)
    for token in found.ids:
        with torch.no_grad():
            assert token == int(model(torch.tensor([ids]))[0, -1].argmax())
        ids.append(token)


def test_the_reasons_of_an_end() -> None:
    gpt = tiny_gpt()
    [found] = decode(gpt, [[1]], generation(3), stop_ids=())
    assert found.finish_reason == "length"
    [ended] = decode(gpt, [[1]], generation(3), stop_ids=set(found.ids))
    assert (ended.ids, ended.finish_reason) == ([], "stop")


# ---- speculation


def reference_lookup(ids: list[int], max_tokens: int) -> list[int]:
    for n in (3, 2):
        places = [place for place in range(len(ids) - n) if ids[place : place + n] == ids[-n:]]
        if places and len(ids) >= n:
            return ids[places[-1] + n :][:max_tokens]
    return []


def test_guesses_are_what_followed_the_same_words_last_time() -> None:
    draw = torch.Generator().manual_seed(0)
    for length in range(12):
        for _ in range(40):
            ids = torch.randint(0, 3, (length,), generator=draw).tolist()
            assert lookup(ids, 4) == reference_lookup(ids, 4)


@pytest.mark.parametrize("n_prompts", [50, pytest.param(300, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("temperature", [0.0, 0.6])
@pytest.mark.parametrize(("rows", "stop_id"), [(1, 31), (5, 31), (5, 2)])
def test_speculation_changes_no_token(
    model: LanguageModel, n_prompts: int, temperature: float, rows: int, stop_id: int
) -> None:
    draw = torch.Generator().manual_seed(2)
    lengths = torch.randint(2, 30, (n_prompts,), generator=draw).tolist()
    prompts = [torch.randint(0, 6, (length,), generator=draw).tolist() for length in lengths]
    steps = {0: 0, 4: 0}
    for begin in range(0, len(prompts), rows):
        part = prompts[begin : begin + rows]
        found = {}
        for guessed in steps:
            config = generation(12, temperature, seed=begin, prompt_lookup_num_tokens=guessed)
            count: list[int] = []
            handle = model.body.register_forward_pre_hook(lambda *_, count=count: count.append(1))
            found[guessed] = [one.tokens for one in decode(model, part, config, stop_ids={stop_id})]
            handle.remove()
            steps[guessed] += len(count)
        assert found[0] == found[4]
    assert steps[4] < steps[0] or temperature > 0  # and some guesses were right; drawn texts repeat themselves less


SETTINGS = [
    {"repetition_penalty": 1.3, "temperature": 0.7, "min_p": 0.05},
    {"frequency_penalty": 0.6, "presence_penalty": 0.3},
    {"n": 3, "temperature": 0.8, "top_logprobs": 3},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_speculation_changes_nothing_whatever_the_settings(model: LanguageModel, settings: dict[str, Any]) -> None:
    draw = torch.Generator().manual_seed(5)
    prompts = [torch.randint(0, 5, (length,), generator=draw).tolist() for length in range(4, 24)]
    plain, guessed = (
        [
            [(new.token, new.finish_reason) for new in found.tokens]
            for found in decode(
                model, prompts, generation(10, prompt_lookup_num_tokens=guesses, **settings), stop_ids=()
            )
        ]
        for guesses in (0, 5)
    )
    assert plain == guessed


# ---- what a request may not ask


@pytest.mark.parametrize("num_beams", [1, 2])
@pytest.mark.parametrize("name", ["suppress_tokens", "forced_tokens"])
def test_ids_that_are_not_in_the_vocabulary_are_refused(name: str, num_beams: int) -> None:
    config = replace(generation(3, num_beams=num_beams), **{name: (3, 16)})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"^{name}: must be ids from 0 to 15, got 16; "):
        decode(tiny_gpt(), [[1]], config, stop_ids=())


def test_more_beams_than_possible_texts_are_refused() -> None:
    config = generation(1, num_beams=2, n=2, forced_tokens=(5,))
    with pytest.raises(UserError, match=r"^n: must be at most the number of possible texts, here 1, got 2; "):
        decode(tiny_gpt(), [[1]], config, stop_ids=())


def test_suppressing_all_tokens_is_refused() -> None:
    with pytest.raises(UserError, match=r"^suppress_tokens: must leave a token that may come"):
        decode(tiny_gpt(), [[1]], generation(3, suppress_tokens=tuple(range(16))), stop_ids=())


def test_a_stream_yields_a_token_of_each_row_per_step(model: LanguageModel) -> None:
    keys = [new.key for new in stream(model, [[1], [2]], generation(3), stop_ids=())]
    assert keys == [0, 1, 0, 1, 0, 1]
