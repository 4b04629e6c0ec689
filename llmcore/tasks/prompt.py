"""The Alpaca prompt: one function, which training and inference share. Book: chapter 7.2."""

PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
RESPONSE = "\n\n### Response:\n"


def prompt_parts(instruction: str, input: str) -> tuple[str, str, str]:
    """Return the prompt in three parts: up to the instruction, the input's section, the response's heading.

    The input's section is empty where there is no input. The answer follows the heading. Space around
    instruction and input is dropped: it would merge with the line ends behind it, and the ids of the
    parts, from which training is made, would not be those of the whole.
    """
    asked = f"{PREAMBLE}\n\n### Instruction:\n{instruction.strip()}"
    given = f"\n\n### Input:\n{input.strip()}" if input.strip() else ""
    return asked, given, RESPONSE


def prompt(instruction: str, input: str) -> str:
    """Return the whole prompt, after which the model answers."""
    return "".join(prompt_parts(instruction, input))
