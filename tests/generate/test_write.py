"""Generated texts and classes are those of the model, the tokenizer and the prompt form."""

from dataclasses import replace

import pytest
import torch
from tiny import classifier_of, generation

from llmcore.cli import main
from llmcore.generate.classify import classify_texts
from llmcore.generate.write import Continuation, answer_instructions, continue_texts
from llmcore.model.registry import new_model
from llmcore.tokenizer.prompt import encode_prompt


def plain(written: list[Continuation]) -> list[tuple[str, str]]:
    return [(one.text, one.finish_reason) for one in written]


TEXTS = ["Call now!", "a", "Anna had a red ball. She gave the ball to Ben."]


def test_a_text_is_continued_as_the_beginning_of_a_document_and_not_repeated(gpt, tokenizer):
    [written] = continue_texts(gpt, tokenizer, ["Anna"], generation(5))
    ids = [tokenizer.end_of_text, *tokenizer.encode("Anna")]
    for _ in range(5):
        with torch.no_grad():
            ids.append(int(gpt(torch.tensor([ids]))[0, -1].argmax()))
    assert tokenizer.end_of_text not in ids[1:]
    assert plain([written]) == [(tokenizer.decode(ids[-5:]), "length")]


def test_a_continuation_that_ended_by_itself_differs_from_one_that_was_cut_off(gpt, tokenizer):
    always(gpt, tokenizer.end_of_text)
    assert plain(continue_texts(gpt, tokenizer, [""], generation(3))) == [("", "stop")]
    always(gpt, tokenizer.encode("b")[0])
    long = "x" * (gpt.config.context_length - 3)  # with end-of-text before it, it leaves room for two tokens
    written = continue_texts(gpt, tokenizer, ["", long], generation(3))
    assert plain(written) == [("bbb", "length"), ("bb", "context")]


def test_the_same_seed_gives_the_same_text(gpt, tokenizer):
    configs = [generation(8, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    written = [continue_texts(gpt, tokenizer, TEXTS[:2], config) for config in configs]
    assert plain(written[0]) == plain(written[1]) != plain(written[2])


def test_a_prompt_that_fills_the_context_gets_no_answer_and_the_others_do(tokenizer, config, randomised):
    room = len(encode_prompt(tokenizer, "alpaca", "Name a ball.", "").ids) + 4
    model = randomised(new_model(replace(config, context_length=room)))
    always(model, tokenizer.encode("b")[0])
    rows = [("Name a ball. " * 9, ""), ("Name a ball.", "")]
    answers = answer_instructions(model, tokenizer, "alpaca", rows, generation(3))
    assert plain(answers) == [("", "context"), ("bbb", "length")]
    assert answer_instructions(model, tokenizer, "alpaca", [], generation(3)) == []


@pytest.mark.parametrize("pooling", ["last_real", "last_position"])
def test_a_text_has_the_same_probabilities_alone_and_in_a_batch(config, tokenizer, randomised, pooling):
    model = randomised(classifier_of(config, ["ham", "other", "spam"], pooling, 12))
    alone = [classify_texts(model, tokenizer, [text], batch_size=1) for text in TEXTS]
    among = classify_texts(model, tokenizer, TEXTS, batch_size=2)
    torch.testing.assert_close(among, torch.cat(alone), rtol=0, atol=1e-5)
    torch.testing.assert_close(among.sum(-1), torch.ones(3))
    cut = tokenizer.decode(tokenizer.encode(TEXTS[2])[:12])
    torch.testing.assert_close(classify_texts(model, tokenizer, [cut], batch_size=1), alone[2], rtol=0, atol=1e-5)


def always(gpt, token: int) -> None:
    """Make a model generate one token for ever: all hidden states are equal, and that token's logit is the largest."""
    with torch.no_grad():
        gpt.transformer.ln_f.weight.zero_()
        gpt.transformer.ln_f.bias.fill_(1.0)
        gpt.lm_head.weight.zero_()
        gpt.lm_head.weight[token] = 1.0


@pytest.mark.parametrize("instruction", ["", " ", "\n\t", "\u00a0"])
def test_an_empty_instruction_is_refused_before_a_model_is_opened(instruction, capsys):
    assert main(["ask", instruction, "--model", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: INSTRUCTION: must not be empty; say what is to be done\n"
