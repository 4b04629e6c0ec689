"""Texts go in and come out as the model, the tokenizer and the task's prompt say."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from llmcore.config.generation import GenerationConfig
from llmcore.generate.classify import classify_texts
from llmcore.generate.sampling import GREEDY
from llmcore.generate.write import Continuation, answer_instructions, continue_texts
from llmcore.model.classifier import SequenceClassifier
from llmcore.tokenizer.prompt import prompt

TEXTS = ["Call now!", "a", "Anna had a red ball. She gave the ball to Ben."]


def test_a_continuation_begins_a_document_and_repeats_no_prompt(gpt, tokenizer):
    [written] = continue_texts(gpt, tokenizer, ["Anna"], max_new_tokens=5, sampling=GREEDY, seed=0)
    ids = [tokenizer.end_of_text, *tokenizer.encode("Anna")]
    for _ in range(5):
        with torch.no_grad():
            ids.append(int(gpt(torch.tensor([ids]))[0, -1].argmax()))
    assert tokenizer.end_of_text not in ids[1:]
    assert written == Continuation(tokenizer.decode(ids[-5:]), ended=False)


def test_a_model_that_ends_at_once_is_told_from_one_that_is_cut_off(gpt, tokenizer):
    always(gpt, tokenizer.end_of_text)
    assert continue_texts(gpt, tokenizer, [""], max_new_tokens=3, sampling=GREEDY, seed=0) == [Continuation("", True)]
    always(gpt, tokenizer.encode("b")[0])
    texts = [
        "",
        "x" * (gpt.config.context_length - 3),
    ]  # the second has room for two tokens, its prompt begins with one
    written = continue_texts(gpt, tokenizer, texts, max_new_tokens=3, sampling=GREEDY, seed=0)
    assert written == [Continuation("bbb", False), Continuation("bb", False)]


def test_the_same_seed_writes_the_same(gpt, tokenizer):
    sampling = GenerationConfig(temperature=1.0, top_k=0, top_p=1.0)
    written = [
        continue_texts(gpt, tokenizer, TEXTS[:2], max_new_tokens=8, sampling=sampling, seed=seed) for seed in (1, 1, 2)
    ]
    assert written[0] == written[1] != written[2]


def test_a_prompt_that_fills_the_context_gets_no_answer_and_the_others_theirs(tokenizer, config, randomised):
    room = len(tokenizer.encode(prompt("alpaca", "Name a ball.", ""))) + 4
    model = randomised(new_model(replace(config, context_length=room)))
    always(model, tokenizer.encode("b")[0])
    rows = [("Name a ball. " * 9, ""), ("Name a ball.", "")]
    settings: dict[str, Any] = {"form": "alpaca", "max_new_tokens": 3, "sampling": GREEDY, "seed": 0}
    answers = answer_instructions(model, tokenizer, rows, **settings)
    assert answers == [Continuation("", False), Continuation("bbb", False)]
    assert answer_instructions(model, tokenizer, [], **settings) == []


@pytest.mark.parametrize("pooling", ["last_real", "last_position"])
def test_a_text_has_the_same_classes_alone_and_among_others(config, tokenizer, randomised, pooling):
    model = randomised(SequenceClassifier(config, ["ham", "other", "spam"], pooling, 12))
    alone = [classify_texts(model, tokenizer, [text], batch_size=1) for text in TEXTS]
    among = classify_texts(model, tokenizer, TEXTS, batch_size=2)
    torch.testing.assert_close(among, torch.cat(alone), rtol=0, atol=1e-5)
    torch.testing.assert_close(among.sum(-1), torch.ones(3))
    cut = tokenizer.decode(tokenizer.encode(TEXTS[2])[:12])
    torch.testing.assert_close(classify_texts(model, tokenizer, [cut], batch_size=1), alone[2], rtol=0, atol=1e-5)


def always(gpt, token: int) -> None:
    """Make a model write one token for ever: all states alike, and that token's logit the largest."""
    with torch.no_grad():
        gpt.transformer.ln_f.weight.zero_()
        gpt.transformer.ln_f.bias.fill_(1.0)
        gpt.lm_head.weight.zero_()
        gpt.lm_head.weight[token] = 1.0
