"""The prompt of an instruction, shared by training, evaluation and use. Book: chapter 7.2 and exercise 7.1.

A form is a chat template and the way in which an input follows the instruction in the user's message. A model's
config.json names the form that it was fine-tuned with, under PROMPT_KEY; `template` is the tokenizer's own.
"""

from typing import NamedTuple

from llmcore.base.errors import UserError
from llmcore.tokenizer.chat import ChatPiece, chat_pieces, encode_pieces, first_special, render
from llmcore.tokenizer.tokenizer import Tokenizer

PROMPT_KEY = "prompt_form"
MAX_SHOWN = 40  # characters of a message in an error

# Alpaca's preamble is the default system message. In later turns the answers end with the token that ended them in
# training.
ALPACA = (
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}"
    "{% else %}{{ 'Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '\n\n### Instruction:\n' + message['content'] | trim }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '\n\n### Response:\n' + message['content'] | trim + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\n### Response:\n' }}{% endif %}"
)
PHI3 = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] | trim + '\n' }}"
    "{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] | trim + '\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|assistant|>:\n' + message['content'] | trim + eos_token + '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>:\n' }}{% endif %}"
)


class Form(NamedTuple):
    template: str | None  # None is the tokenizer's own
    before_input: str  # between instruction and input


FORMS = {
    "alpaca": Form(ALPACA, "\n\n### Input:\n"),
    "phi3": Form(PHI3, "\n"),
    "template": Form(None, "\n\n"),
}


class Prompt(NamedTuple):
    """The ids of a prompt, which the model continues with its answer."""

    ids: list[int]
    n_instruction: int  # of them up to the end of the instruction


def chat_template(tokenizer: Tokenizer, form: str) -> str:
    """Return the template of a form; UserError if it is the tokenizer's own and there is none.

    Where texts begin with tokens of their own, such as Llama's, a prompt does too.
    """
    template = FORMS[form].template
    if template is not None:
        start = tokenizer.decode(tokenizer.text_start)
        return (f"{{{{ {start!r} }}}}" if start else "") + template
    if tokenizer.chat_template is None:
        rule = "needs a base with a chat_template in its tokenizer_config.json, and this one has none"
        raise UserError(f"instruct.prompt: 'template' {rule}; set it to alpaca or phi3, or take another base")
    return tokenizer.chat_template


def encode_prompt(tokenizer: Tokenizer, form: str, instruction: str, input: str) -> Prompt:
    """Return the prompt of an instruction and its input, which may be empty.

    White space around each is removed: it could merge with the line ends next to it.
    """
    instruction, input = instruction.strip(), input.strip()
    content = instruction + (FORMS[form].before_input + input if input else "")
    template = chat_template(tokenizer, form)
    pieces = chat_pieces(tokenizer, template, [{"role": "user", "content": ""}], add_generation_prompt=True)
    if len(pieces) != 3:
        raise UserError("chat_template: must write a user's message once; restore the template")
    before, _, after = pieces
    chat = [before, ChatPiece(content, of_template=False), after]
    check_kept(tokenizer, template, content, chat)
    ids = encode_pieces(tokenizer, chat)
    begin = encode_pieces(tokenizer, [before, ChatPiece(instruction, of_template=False)])
    return Prompt(ids, common_length(ids, begin))


def check_kept(tokenizer: Tokenizer, template: str, content: str, chat: list[ChatPiece]) -> None:
    """UserError if a template writes something else for this message than it writes for any, white space apart."""
    messages = [{"role": "user", "content": content}]
    text = render(template, messages, tokenizer.special_tokens_map, add_generation_prompt=True)
    if text.split() != "".join(piece.text for piece in chat).split():
        shown = content if len(content) <= MAX_SHOWN else content[:MAX_SHOWN] + "..."
        rule = f"must write a user's message as it is, and rewrites {shown!r}"
        raise UserError(f"chat_template: {rule}; set instruct.prompt to alpaca or phi3, or take another base")


def common_length(first: list[int], second: list[int]) -> int:
    """Return the number of ids with which both begin."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))


def answer_end(tokenizer: Tokenizer, form: str) -> int:
    """Return the id that ends an answer: the first special token that the template writes after it, or end-of-text."""
    messages = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
    pieces = chat_pieces(tokenizer, chat_template(tokenizer, form), messages, add_generation_prompt=False)
    found = first_special(tokenizer, pieces[-1].text)
    return tokenizer.end_of_text if found is None else found
