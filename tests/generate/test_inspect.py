"""What the pages show of a model is what its logits, its attention and its hidden states are."""

from typing import Any

import pytest
import torch

from llmcore.base.errors import UserError
from llmcore.generate.inspect import inspect_attention, inspect_lens, inspect_tokens
from llmcore.generate.token_tables import attention_rows, token_rows

TEXT = "Anna had a"


@pytest.fixture
def ids(tokenizer: Any) -> list[int]:
    return [*tokenizer.document_start, *tokenizer.encode(TEXT)]


@pytest.fixture
def logits(gpt: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return gpt(torch.tensor([ids]))[0]


def test_probabilities_and_alternatives_are_the_models(gpt: Any, tokenizer: Any, ids: Any, logits: Any) -> None:
    found = inspect_tokens(gpt, tokenizer, TEXT)
    first, *others = found["tokens"]
    assert first == {"text": "<|endoftext|>", "id": ids[0], "probability": None, "alternatives": []}
    assert [token["id"] for token in others] == ids[1:]
    assert "".join(token["text"] for token in others) == TEXT
    for place, token in enumerate(others):
        expected = logits[place].softmax(-1)
        assert token["probability"] == pytest.approx(float(expected[token["id"]]), rel=1e-5)
        values, likeliest = expected.topk(5)
        assert [each["probability"] for each in token["alternatives"]] == pytest.approx(values.tolist(), rel=1e-5)
        assert token["alternatives"][0]["text"] == tokenizer.decode([int(likeliest[0])])
    assert (found["n_layer"], found["n_head"], found["cut_tokens"]) == (2, 2, 0)
    rows = token_rows(gpt, tokenizer, TEXT)
    assert rows == [{"token": token["text"], "probability": token["probability"]} for token in others]


@pytest.mark.parametrize(("layer", "head"), [(0, 0), (0, 1), (1, 1)])
def test_attention_is_that_of_the_layer_and_head(gpt: Any, tokenizer: Any, ids: Any, layer: int, head: int) -> None:
    expected = gpt.attention_maps(torch.tensor([ids]))[layer, 0, head]  # (T, T)
    found = inspect_attention(gpt, tokenizer, TEXT, layer, head)
    for place, row in enumerate(found["weights"]):
        assert row == pytest.approx(expected[place, : place + 1].tolist(), rel=1e-5)
    mean = gpt.attention_maps(torch.tensor([ids]))[-1, 0].mean(0)
    shown = [[row[str(place)] for place in range(len(ids))] for row in attention_rows(gpt, tokenizer, TEXT)]
    assert torch.allclose(torch.tensor(shown), mean)


def test_lens_ends_with_what_the_model_says(gpt: Any, tokenizer: Any, ids: Any, logits: Any) -> None:
    found = inspect_lens(gpt, tokenizer, TEXT)
    states = gpt.body.hidden_states(torch.tensor([ids]))[1:]
    assert len(found["layers"]) == len(states) == 2
    for layer, state in zip(found["layers"], states, strict=True):
        with torch.no_grad():
            expected = gpt.lm_head(gpt.body.final_norm(state))[0].softmax(-1).topk(3).values
        assert [[each["probability"] for each in cell] for cell in layer] == [
            pytest.approx(row, rel=1e-5) for row in expected.tolist()
        ]
    last = [cell[0]["probability"] for cell in found["layers"][-1]]
    assert last == pytest.approx(logits.softmax(-1).max(-1).values.tolist(), rel=1e-5)


def test_what_does_not_fit_is_counted(gpt: Any, tokenizer: Any) -> None:
    n_tokens = len(tokenizer.encode("x" * 40)) + 1
    for found in (inspect_tokens(gpt, tokenizer, "x" * 40), inspect_lens(gpt, tokenizer, "x" * 40)):
        assert len(found["tokens"]) == gpt.config.context_length
        assert found["cut_tokens"] == n_tokens - gpt.config.context_length


@pytest.mark.parametrize(("layer", "head"), [(2, 0), (-1, 0), (0, 2)])
def test_a_layer_or_head_that_is_not_there_is_refused(gpt: Any, tokenizer: Any, layer: int, head: int) -> None:
    with pytest.raises(UserError, match=r"(layer|head): must be from 0 to 1, got (2|-1); correct it"):
        inspect_attention(gpt, tokenizer, TEXT, layer, head)
