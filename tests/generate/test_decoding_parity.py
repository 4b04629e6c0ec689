"""Penalties, filters and beams choose the tokens that transformers' `generate` chooses."""

from typing import Any

import pytest
import torch
import transformers
from tiny import generation
from torch import Tensor

from llmcore.base.seeds import torch_generator
from llmcore.generate.decode import decode
from llmcore.generate.sampling import choose, keep_min_p, keep_top_k, keep_top_p, penalised
from llmcore.model.folder import load_language_model

VOCAB, CONTEXT = 40, 48
DRAW = torch.Generator().manual_seed(4)
PROMPTS = [torch.randint(0, 30, (n,), generator=DRAW).tolist() for n in (1, 3, 7, 12, 20, 5)]

CHANGES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "repetition penalty": {"repetition_penalty": 1.3},
    "a reward for repetition": {"repetition_penalty": 0.8},
    "suppressed": {"suppress_tokens": (3, 5, 8, 11)},
    "both": {"repetition_penalty": 1.7, "suppress_tokens": (0, 7)},
}


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A random model of transformers, and the same folder opened here."""
    torch.manual_seed(1)
    theirs: Any
    if request.param == "gpt2":
        config = transformers.GPT2Config(vocab_size=VOCAB, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4)
        theirs = transformers.GPT2LMHeadModel(config)
    else:
        theirs = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=VOCAB,
                max_position_embeddings=CONTEXT,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
            )
        )
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
    theirs.eval()
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    model = load_language_model(folder)
    written = [
        token for found in decode(model, PROMPTS, generation(15), stop_ids=()) for token in found.ids[4:] if token > 11
    ]
    theirs.generation_config.eos_token_id = theirs.generation_config.pad_token_id = max(set(written), key=written.count)
    return theirs, model


def their_rows(theirs: Any, prompt: list[int], **settings: Any) -> list[list[int]]:
    end = theirs.generation_config.eos_token_id
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "max_new_tokens": 15} | settings
    rows = theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings)[:, len(prompt) :].tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]


def our_rows(pair: Any, prompt: list[int], **changes: Any) -> list[list[int]]:
    theirs, model = pair
    stop_ids = {theirs.generation_config.eos_token_id}
    return [found.ids for found in decode(model, [prompt], generation(15, **changes), stop_ids=stop_ids)]


@pytest.mark.parametrize("name", CHANGES)
def test_greedy_tokens_are_theirs(pair: Any, name: str) -> None:
    changes = CHANGES[name]
    for prompt in PROMPTS:
        assert our_rows(pair, prompt, **changes) == their_rows(pair[0], prompt, **listed(changes))


def listed(changes: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in changes.items()}


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("num_beams", [2, 3, 5])
@pytest.mark.parametrize("name", ["greedy", "both"])
def test_beams_are_theirs(pair: Any, num_beams: int, length_penalty: float, name: str) -> None:
    changes = CHANGES[name]
    beams: dict[str, Any] = {"num_beams": num_beams, "length_penalty": length_penalty}
    ended = 0
    for prompt in PROMPTS:
        [found] = our_rows(pair, prompt, **beams, **changes)
        assert [found] == their_rows(pair[0], prompt, **beams, **listed(changes))
        ended += len(found) < 15
    assert length_penalty > 0 or ended  # otherwise no beam ever ended


def test_the_other_beams_are_theirs(pair: Any) -> None:
    found = our_rows(pair, PROMPTS[2], num_beams=4, n=3)
    assert found == their_rows(pair[0], PROMPTS[2], num_beams=4, num_return_sequences=3)


# ---- distributions


def their_probabilities(logits: Tensor, ids: list[int], **settings: Any) -> Tensor:
    """The probabilities after transformers' processors, in its order."""
    config = transformers.GenerationConfig(do_sample=True, **settings)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=4, n_embd=4, n_layer=1, n_head=1))
    config._eos_token_tensor = None
    processors = model._get_logits_processor(generation_config=config, input_ids_seq_length=len(ids), model_kwargs={})
    probabilities: Tensor = processors(torch.tensor([ids]), logits[None]).softmax(-1)[0]
    return probabilities


FILTERS: list[dict[str, Any]] = [
    {"temperature": 0.7},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.0, "top_p": 0.8},
    {"temperature": 1.3, "min_p": 0.2},
    {"temperature": 0.8, "top_k": 9, "top_p": 0.9, "min_p": 0.05},
    {"temperature": 1.5, "top_k": 7, "top_p": 0.7, "min_p": 0.3, "repetition_penalty": 1.4},
]


@pytest.mark.parametrize("settings", FILTERS)
def test_the_distribution_of_a_token_is_theirs(settings: dict[str, Any]) -> None:
    logits = torch.randn(20, generator=torch.Generator().manual_seed(8)) * 2
    ids = [4, 4, 9, 17]
    config = generation(**({"top_k": 0, "top_p": 1.0} | settings))
    scaled = penalised(logits, config, ids[:1], ids[1:]).double() / config.temperature
    ours = keep_min_p(keep_top_p(keep_top_k(scaled, config.top_k), config.top_p), config.min_p).softmax(-1)
    theirs = their_probabilities(logits, ids, **({"top_k": 0} | settings))
    torch.testing.assert_close(ours.float(), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", FILTERS)
def test_draws_have_the_distribution(settings: dict[str, Any]) -> None:
    """Pearson's chi-square of 4,000 seeded draws; the 99.9% quantile of its distribution is the limit."""
    from scipy.stats import chi2

    logits = torch.randn(20, generator=torch.Generator().manual_seed(8)) * 2
    ids, draws = [4, 4, 9, 17], 4000
    config = generation(**({"top_k": 0, "top_p": 1.0} | settings))
    expected = their_probabilities(logits, ids, **({"top_k": 0} | settings)).double() * draws
    generator = torch_generator(0, "draws")
    drawn = torch.tensor([choose(logits, config, generator, ids[:1], ids[1:]) for _ in range(draws)])
    counts = torch.bincount(drawn, minlength=20).double()
    assert counts[expected == 0].sum() == 0
    likely = expected >= 5
    statistic = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    assert statistic < chi2.ppf(0.999, int(likely.sum()) - 1)


def test_frequency_and_presence_penalties_follow_openais_formula() -> None:
    """mu[j] - c[j] * frequency - (c[j] > 0) * presence, c counting what was written and not the prompt."""
    logits = torch.randn(6, generator=torch.Generator().manual_seed(0))
    written = [2, 2, 5, 2]
    found = penalised(logits, generation(frequency_penalty=0.5, presence_penalty=0.25), [1, 1], written)
    counts = torch.tensor([0.0, 0, 3, 0, 0, 1])
    torch.testing.assert_close(found, logits - counts * 0.5 - (counts > 0) * 0.25)
    assert torch.equal(penalised(logits, generation(frequency_penalty=0.5), [1, 1], []), logits)


def test_forced_tokens_come_first_and_then_the_model_goes_on(pair: Any) -> None:
    [found] = our_rows(pair, [1, 2], forced_tokens=(7, 8))
    assert found[:2] == [7, 8]
    assert found[2:] == our_rows(pair, [1, 2, 7, 8])[0][:13]
    [sampled] = our_rows(pair, [1, 2], forced_tokens=(7, 8), temperature=1.0)
    assert sampled[:2] == [7, 8]


def test_logprobs_are_the_models_own(pair: Any) -> None:
    _, model = pair
    prompt = PROMPTS[3]
    config = generation(5, temperature=0.5, top_k=3, repetition_penalty=1.5, top_logprobs=4)
    [found] = decode(model, [prompt], config, stop_ids=())
    ids = [*prompt, *found.ids]
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0].log_softmax(-1)
    for place, new in enumerate(found.tokens):
        row = expected[len(prompt) - 1 + place]
        assert new.logprob == pytest.approx(float(row[new.token]), abs=1e-4)
        values, tokens = row.topk(4)
        assert [one.token for one in new.alternatives] == tokens.tolist()
        assert [one.logprob for one in new.alternatives] == pytest.approx(values.tolist(), abs=1e-4)
