"""The prompt forms: one function, which training, evaluation and serving share. Book: chapter 7.2, exercise 7.1.

The form that a model was tuned with stands in its config.json, under PROMPT_KEY.
"""

FORMS = ("alpaca", "phi3")
PROMPT_KEY = "prompt_form"
PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


def prompt_parts(form: str, instruction: str, input: str) -> tuple[str, str, str]:
    """Return the prompt in three parts: up to the instruction, the input's section, the response's heading.

    The input's section is empty where there is no input. The answer follows the heading. Space around
    instruction and input is dropped: it would merge with the line ends behind it, and the ids of the
    parts, from which training is made, would not be those of the whole.
    """
    instruction, input = instruction.strip(), input.strip()
    if form == "alpaca":
        given = f"\n\n### Input:\n{input}" if input else ""
        return f"{PREAMBLE}\n\n### Instruction:\n{instruction}", given, "\n\n### Response:\n"
    assert form == "phi3", form
    return f"<|user|>\n{instruction}", f"\n{input}" if input else "", "\n<|assistant|>:\n"


def prompt(form: str, instruction: str, input: str) -> str:
    """Return the whole prompt, after which the model answers."""
    return "".join(prompt_parts(form, instruction, input))
