"""The prompt of an instruction, shared by training, evaluation and use. Book: chapter 7.2 and exercise 7.1.

A form is a chat template and the way in which an input follows the instruction in the user's message. A model's
config.json names the form that it was fine-tuned with, under PROMPT_KEY; `template` is the tokenizer's own.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from llmcore.base.containers import common_length
from llmcore.base.errors import UserError
from llmcore.tokenizer.chat import ChatPiece, Message, chat_pieces, encode_pieces, first_special, render
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


class Frame(NamedTuple):
    """What the template of a form writes around a user's message, and the id that ends the answer."""

    before: ChatPiece
    after: ChatPiece
    answer_end: int


@lru_cache(maxsize=8)
def frame(tokenizer: Tokenizer, form: str) -> Frame:
    """Return the frame of a form; UserError for a template that does not write a user's message once."""
    template = chat_template(tokenizer, form)
    question = {"role": "user", "content": ""}
    pieces = chat_pieces(tokenizer, template, [question], add_generation_prompt=True)
    if len(pieces) != 3:
        raise UserError("chat_template: must write a user's message once; restore the template")
    answer = {"role": "assistant", "content": ""}
    answered = chat_pieces(tokenizer, template, [question, answer], add_generation_prompt=False)
    found = first_special(tokenizer, answered[-1].text)
    return Frame(pieces[0], pieces[-1], tokenizer.end_of_text if found is None else found)


def encode_prompt(tokenizer: Tokenizer, form: str, instruction: str, input: str) -> Prompt:
    """Return the prompt of an instruction and its input, which may be empty.

    White space around each is removed: it could merge with the line ends next to it.
    """
    instruction, input = instruction.strip(), input.strip()
    content = instruction + (FORMS[form].before_input + input if input else "")
    before, after, _ = frame(tokenizer, form)
    chat = [before, ChatPiece(content, of_template=False), after]
    if FORMS[form].template is None:  # ours are known to write a message as it is
        check_kept(tokenizer, chat_template(tokenizer, form), [{"role": "user", "content": content}], chat)
    ids = encode_pieces(tokenizer, chat)
    begin = encode_pieces(tokenizer, [before, ChatPiece(instruction, of_template=False)])
    return Prompt(ids, common_length(ids, begin))


def encode_chat(tokenizer: Tokenizer, form: str, messages: Sequence[Message]) -> list[int]:
    """Return the prompt of a chat's next answer, white space around each message removed.

    UserError for a chat that the template refuses or rewrites.
    """
    template = chat_template(tokenizer, form)
    messages = [{**message, "content": message["content"].strip()} for message in messages]
    chat = chat_pieces(tokenizer, template, messages, add_generation_prompt=True)
    if FORMS[form].template is None:
        check_kept(tokenizer, template, messages, chat)
    return encode_pieces(tokenizer, chat)


def check_kept(tokenizer: Tokenizer, template: str, messages: Sequence[Message], chat: list[ChatPiece]) -> None:
    """UserError if a template writes something else for these messages than it writes for any, white space apart."""
    text = render(template, messages, tokenizer.special_tokens_map, add_generation_prompt=True)
    if text.split() != "".join(piece.text for piece in chat).split():
        content = next((each["content"] for each in messages if each["content"] not in text), messages[-1]["content"])
        shown = content if len(content) <= MAX_SHOWN else content[:MAX_SHOWN] + "..."
        rule = f"must write a user's message as it is, and rewrites {shown!r}"
        raise UserError(f"chat_template: {rule}; set instruct.prompt to alpaca or phi3, or take another base")


def answer_end(tokenizer: Tokenizer, form: str) -> int:
    """Return the id that ends an answer: the first special token that the template writes after it, or end-of-text."""
    return frame(tokenizer, form).answer_end
