"""The prompt forms, shared by training, evaluation and serving. Book: chapter 7.2 and exercise 7.1.

A model's config.json names the form that it was fine-tuned with, under PROMPT_KEY.
"""

FORMS = ("alpaca", "phi3")
PROMPT_KEY = "prompt_form"
PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


def prompt_parts(form: str, instruction: str, input: str) -> tuple[str, str, str]:
    """Return the prompt in three parts: up to the instruction, the section of the input, the response's heading.

    Without an input its section is empty. The answer follows the heading. White space around instruction and
    input is removed: it could merge with the line ends next to it, and then the ids of the parts, which
    training uses, would differ from those of the whole prompt, which inference uses.
    """
    instruction, input = instruction.strip(), input.strip()
    if form == "alpaca":
        given = f"\n\n### Input:\n{input}" if input else ""
        return f"{PREAMBLE}\n\n### Instruction:\n{instruction}", given, "\n\n### Response:\n"
    assert form == "phi3", form
    return f"<|user|>\n{instruction}", f"\n{input}" if input else "", "\n<|assistant|>:\n"


def prompt(form: str, instruction: str, input: str) -> str:
    """Return the whole prompt, which the model continues with its answer."""
    return "".join(prompt_parts(form, instruction, input))
