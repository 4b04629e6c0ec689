"""The prompt forms are those of the book, and their ids are the same in training and inference."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.tokenizer.bpe import Tokenizer
from llmcore.tokenizer.prompt import FORMS, prompt, prompt_parts

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

texts = st.text(st.sampled_from("ab .\n\t\u00a0\u3000#é"), max_size=8)


def test_the_alpaca_form_is_the_books() -> None:
    """Book, chapter 7.2: `format_input`, and the heading before the answer."""
    assert prompt("alpaca", "What is an antonym of 'complicated'?", "") == WITHOUT_INPUT
    assert prompt("alpaca", "Identify the correct spelling of the following word.", "Ocassion") == WITH_INPUT


def test_the_phi3_form_is_the_books() -> None:
    """Book, exercise 7.1: `format_input` of its solution, and the heading before the answer."""
    asked, given = "Identify the correct spelling of the following word.", "Ocassion"
    assert prompt("phi3", asked, given) == f"<|user|>\n{asked}\n{given}\n<|assistant|>:\n"
    assert prompt("phi3", asked, "") == f"<|user|>\n{asked}\n<|assistant|>:\n"


@pytest.mark.parametrize("form", FORMS)
def test_white_space_around_instruction_and_input_is_removed(form: str) -> None:
    assert prompt(form, " Say hi.\n", "\n") == prompt(form, "Say hi.", "")


@settings(deadline=None)
@given(form=st.sampled_from(FORMS), instruction=texts, input=texts)
def test_the_ids_of_the_parts_are_those_of_the_whole(
    tokenizer: Tokenizer, form: str, instruction: str, input: str
) -> None:
    """Training encodes the parts, inference the whole: the model must see the same ids."""
    parts = [token for part in prompt_parts(form, instruction, input) for token in tokenizer.encode(part)]
    assert parts == tokenizer.encode(prompt(form, instruction, input))
