"""`llmcore chat`: talk with the instruct model, several turns, in the terminal."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmcore.base.errors import UserError
from llmcore.base.text import checked_input
from llmcore.commands.options import add_generation_options, generation_config, open_for_generation, warn_base
from llmcore.config.generation import ANSWER

if TYPE_CHECKING:
    from llmcore.generate.chat import Chat

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

HELP = """/reset            forget all messages
/seed N           draw with another seed
/temperature T    0 takes the likeliest token
/save FILE        write the messages to a new JSON file
/quit             end; so does Ctrl-D. Ctrl-C ends an answer
/help             show this"""


def add_chat(commands: "Commands") -> None:
    chat = commands.add_parser(
        "chat", help="talk with the instruct model", epilog=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    chat.add_argument("--system", metavar="TEXT", help="a message before all others")
    add_generation_options(chat, "models/instruct", ANSWER)
    chat.set_defaults(run=run_chat)


def run_chat(arguments: argparse.Namespace) -> None:
    config = generation_config(arguments)
    if config.n > 1 or config.num_beams > 1 or config.top_logprobs is not None:
        raise UserError("llmcore chat: -n, --num-beams and --explain have no meaning in a chat; leave them out")
    from llmcore.generate.chat import Chat
    from llmcore.generate.write import prompt_form

    model, tokenizer = open_for_generation(arguments)
    chat = Chat(model, tokenizer, prompt_form(arguments.model), config)
    warn_base(arguments.model, tokenizer)
    system = arguments.system and checked_input(arguments.system, "--system")
    reset(chat, system)
    for line in lines(f"{arguments.model}: /help lists the commands"):
        try:
            if line.startswith("/"):
                if line.split()[0] == "/quit":
                    return
                command(chat, line, system)
            elif line.strip():
                answer(chat, checked_input(line, "message"))
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)


def reset(chat: "Chat", system: str | None) -> None:
    chat.reset()
    if system:
        chat.messages.append({"role": "system", "content": system})


def answer(chat: "Chat", message: str) -> None:
    """Print the answer as it is written; Ctrl-C ends it and not the chat."""
    pieces, begun = chat.say(message), False
    try:
        for piece in pieces:
            shown = piece if begun else piece.lstrip()
            begun = begun or bool(shown)
            print(shown, end="", flush=True)
    except KeyboardInterrupt:
        with suppress(RuntimeError):
            pieces.close()  # type: ignore[attr-defined]
    print(flush=True)
    context = "the model's context is full"
    if chat.dropped:
        print(f"({context}: the {chat.dropped} oldest messages were left out)", file=sys.stderr)
    if chat.finish_reason == "context":
        print(f"(the answer was cut: {context})", file=sys.stderr)
    elif chat.finish_reason == "length":
        print(f"(the answer was cut at --max-new-tokens {chat.config.max_new_tokens})", file=sys.stderr)


def command(chat: "Chat", line: str, system: str | None) -> None:
    """Do what a line that begins with / asks for; UserError for one that is not known."""
    name, _, value = line.partition(" ")
    value = value.strip()
    if name == "/help":
        print(HELP)
    elif name == "/reset":
        reset(chat, system)
        print("all messages are forgotten")
    elif name == "/seed":
        chat.config = replace(chat.config, seed=int(number(name, value, int)))
    elif name == "/temperature":
        config = replace(chat.config, temperature=number(name, value, float))
        config.check(spelled=lambda key: f"/{key}")
        chat.config = config
    elif name == "/save":
        print(save(chat, value))
    else:
        raise UserError(f"{name}: is no command; /help lists them")


def number(name: str, value: str, kind: Callable[[str], float]) -> float:
    try:
        return kind(value)
    except ValueError:
        raise UserError(f"{name}: must be followed by a number, got {value!r}; correct it") from None


def save(chat: "Chat", name: str) -> str:
    """Write the messages to a new file and return what to tell the user."""
    from llmcore.base.files import user_errors, write_json

    if not name:
        raise UserError("/save: must be followed by a file's name, such as /save chat.json")
    path = Path(name)
    if path.exists():
        raise UserError(f"{path}: exists already; choose another name")
    with user_errors(path):
        write_json(path, {"messages": [dict(message) for message in chat.messages]})
    return f"{path}: {len(chat.messages)} messages"


def lines(greeting: str) -> Iterator[str]:
    """Yield what the user types, with line editing and history on a terminal, until the end of the input."""
    if not sys.stdin.isatty():
        try:
            for line in sys.stdin:
                yield line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input: must be UTF-8 text ({error}); convert it") from None
        return
    from prompt_toolkit import PromptSession

    print(greeting, file=sys.stderr)
    session: PromptSession[str] = PromptSession()
    while True:
        try:
            yield session.prompt("> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
