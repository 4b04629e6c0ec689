"""The Alpaca prompt, as the book has it, and the same ids in training and inference."""

from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.tasks.prompt import prompt, prompt_parts
from llmcore.tokenizer.bpe import Tokenizer

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


def test_prompt_is_the_books() -> None:
    """Book, chapter 7.2: `format_input`, and the heading before the answer."""
    assert prompt("What is an antonym of 'complicated'?", "") == WITHOUT_INPUT
    assert prompt("Identify the correct spelling of the following word.", "Ocassion") == WITH_INPUT


def test_space_around_what_is_asked_is_dropped() -> None:
    assert prompt(" Say hi.\n", "\n") == prompt("Say hi.", "")


@settings(deadline=None)
@given(instruction=texts, input=texts)
def test_the_ids_of_the_parts_are_those_of_the_whole(tokenizer: Tokenizer, instruction: str, input: str) -> None:
    """Training encodes the parts, inference the whole: with other ids the model is asked what it never saw."""
    parts = [token for part in prompt_parts(instruction, input) for token in tokenizer.encode(part)]
    assert parts == tokenizer.encode(prompt(instruction, input))
