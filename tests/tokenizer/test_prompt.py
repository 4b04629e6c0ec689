"""The prompt forms are those of the book, and their ids are the same in training and inference."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.base.errors import UserError
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.chat import render
from llmcore.tokenizer.prompt import FORMS, answer_end, chat_template, encode_prompt

PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
WITHOUT_INPUT = """Below is an instruction that describes a task. Write a response that appropriately completes the request.

### Instruction:
What is an antonym of 'complicated'?

### Response:
"""  # noqa: E501

WITH_INPUT = """Below is an instruction that describes a task. Write a response that appropriately completes the request.

### Instruction:
Identify the correct spelling of the following word.

### Input:
Ocassion

### Response:
"""  # noqa: E501

texts = st.text(st.sampled_from("ab .\n\t\u00a0\u3000#é<|>"), max_size=8)


def book_parts(form: str, instruction: str, input: str) -> tuple[str, str, str]:
    """The book's `format_input` up to the instruction, the section of the input, the heading before the answer."""
    instruction, input = instruction.strip(), input.strip()
    if form == "alpaca":
        section = f"\n\n### Input:\n{input}" if input else ""
        return f"{PREAMBLE}\n\n### Instruction:\n{instruction}", section, "\n\n### Response:\n"
    return f"<|user|>\n{instruction}", f"\n{input}" if input else "", "\n<|assistant|>:\n"


def text_of(tokenizer: BytePairTokenizer, form: str, instruction: str, input: str) -> str:
    return tokenizer.decode(encode_prompt(tokenizer, form, instruction, input).ids)


def test_the_alpaca_form_is_the_books(tokenizer: BytePairTokenizer) -> None:
    """Book, chapter 7.2: `format_input`, and the heading before the answer."""
    assert text_of(tokenizer, "alpaca", "What is an antonym of 'complicated'?", "") == WITHOUT_INPUT
    asked = "Identify the correct spelling of the following word."
    assert text_of(tokenizer, "alpaca", asked, "Ocassion") == WITH_INPUT


def test_the_phi3_form_is_the_books(tokenizer: BytePairTokenizer) -> None:
    """Book, exercise 7.1: `format_input` of its solution, and the heading before the answer."""
    asked, given = "Identify the correct spelling of the following word.", "Ocassion"
    assert text_of(tokenizer, "phi3", asked, given) == f"<|user|>\n{asked}\n{given}\n<|assistant|>:\n"
    assert text_of(tokenizer, "phi3", asked, "") == f"<|user|>\n{asked}\n<|assistant|>:\n"


@settings(deadline=None)
@given(form=st.sampled_from(["alpaca", "phi3"]), instruction=texts, input=texts)
def test_the_ids_of_a_prompt_are_those_of_the_books_parts(
    tokenizer: BytePairTokenizer, form: str, instruction: str, input: str
) -> None:
    """Encoded together or apart: no token reaches from one part into the next, so a mask ends where a part does."""
    parts = [tokenizer.encode(part) for part in book_parts(form, instruction, input)]
    prompt = encode_prompt(tokenizer, form, instruction, input)
    assert prompt.ids == [token for part in parts for token in part]
    assert prompt.ids == tokenizer.encode("".join(book_parts(form, instruction, input)))
    assert prompt.n_instruction == len(parts[0])


def test_a_special_token_in_an_instruction_stays_ordinary_text(tokenizer: BytePairTokenizer) -> None:
    asked = "What does <|endoftext|> mean?"
    for form in ("alpaca", "phi3"):
        prompt = encode_prompt(tokenizer, form, asked, "")
        assert prompt.ids == tokenizer.encode("".join(book_parts(form, asked, "")))
        assert tokenizer.end_of_text not in prompt.ids


@pytest.mark.parametrize("form", ["alpaca", "phi3"])
def test_answers_of_earlier_turns_end_as_in_training(tokenizer: BytePairTokenizer, form: str) -> None:
    messages = [{"role": role, "content": role[0]} for role in ("system", "user", "assistant", "user")]
    names = tokenizer.special_tokens_map
    text = render(chat_template(tokenizer, form), messages, names, add_generation_prompt=True)
    heading = "\n\n### Response:\n" if form == "alpaca" else "<|assistant|>:\n"
    assert text.count(f"{heading}a<|endoftext|>") == 1
    assert text.endswith(heading)
    assert PREAMBLE not in text
    assert answer_end(tokenizer, form) == tokenizer.end_of_text


@pytest.mark.parametrize("form", ["alpaca", "phi3"])
def test_the_templates_equal_transformers(tokenizer: BytePairTokenizer, form: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [{"role": role, "content": f" {role}\n"} for role in ("user", "assistant", "user")]
    template = chat_template(tokenizer, form)
    names = tokenizer.special_tokens_map
    for prompt in (True, False):
        [theirs], _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=prompt, **names)
        assert render(template, messages, names, add_generation_prompt=prompt) == theirs


def test_the_form_template_needs_a_tokenizer_that_has_one(tokenizer: BytePairTokenizer) -> None:
    with pytest.raises(UserError, match=r"instruct.prompt: 'template' needs .* set it to alpaca or phi3"):
        encode_prompt(tokenizer, "template", "Say hi.", "")
    chatting = tokenizer.with_chat("{{ '>' + messages[0]['content'] + '\n' }}")
    assert text_of(chatting, "template", " Say hi.", "twice ") == ">Say hi.\n\ntwice\n"
    assert list(FORMS) == ["alpaca", "phi3", "template"]
