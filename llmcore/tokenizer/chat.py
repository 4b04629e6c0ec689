"""Chat templates: a conversation as the text, and the ids, that a model was trained to continue.

A template is Jinja and comes with the weights, so it runs in a sandbox. It is rendered as transformers renders it.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from llmcore.base.errors import UserError
from llmcore.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jinja2 import Template

Message = Mapping[str, str]  # role and content

# A template that writes today's date would change the training data every day. This is the default of Llama 3's.
TODAY = datetime(2024, 7, 26)

_MARK = "\ue000{}\ue001"  # stands for the content of a message while the template is rendered
_MARKS = re.compile("\ue000([0-9]+)\ue001")


class ChatPiece(NamedTuple):
    """A part of a chat's text: special tokens are meant in the template's own, and not in a person's."""

    text: str
    of_template: bool


def render(
    template: str,
    messages: Sequence[Message],
    special_tokens: Mapping[str, str],
    *,
    add_generation_prompt: bool,
    now: datetime = TODAY,
) -> str:
    """Return a chat as a text, equal to that of transformers' `apply_chat_template`.

    `special_tokens` are the texts that the template knows by name, such as `eos_token`. UserError for a template
    that is not valid or refuses the messages.
    """
    from jinja2 import TemplateError

    try:
        return _compiled(template).render(
            messages=[dict(message) for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            strftime_now=now.strftime,
            **special_tokens,
        )
    # what a template computes can fail in any way that Python knows
    except (
        TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"chat_template: cannot write this chat ({reason}); restore the template") from None


@lru_cache
def _compiled(template: str) -> "Template":
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what an assistant says, and changes no text."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = refuse
    return environment.from_string(template)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """Jinja's own filter escapes the characters of HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def chat_pieces(
    tokenizer: Tokenizer, template: str, messages: Sequence[Message], *, add_generation_prompt: bool
) -> list[ChatPiece]:
    """Return the text of a chat in pieces, the template's own and the contents of messages.

    The template sees marks in place of the contents, so one that computes with a content writes other pieces. White
    space around a content is removed, as most templates do.
    """
    marked = [{**message, "content": _MARK.format(number)} for number, message in enumerate(messages)]
    text = render(template, marked, tokenizer.special_tokens_map, add_generation_prompt=add_generation_prompt)
    parts = _MARKS.split(text)
    contents = [messages[int(number)]["content"].strip() for number in parts[1::2]]
    pieces = [ChatPiece(parts[0], of_template=True)]
    for content, text in zip(contents, parts[2::2], strict=True):
        pieces += [ChatPiece(content, of_template=False), ChatPiece(text, of_template=True)]
    return pieces


def encode_pieces(tokenizer: Tokenizer, pieces: Iterable[ChatPiece]) -> list[int]:
    """Return the ids of a chat; a special token in a person's text stays ordinary text.

    Where no person wrote one, the ids are those of transformers. Else the text between the template's special tokens
    is encoded a stretch at a time.
    """
    pieces = list(pieces)
    special = _any_of(tokenizer.special_tokens)
    if not any(special.search(piece.text) for piece in pieces if not piece.of_template):
        return tokenizer.encode_special("".join(piece.text for piece in pieces))
    stretches = [""]  # ordinary text and special tokens in turn
    for piece in pieces:
        first, *others = special.split(piece.text) if piece.of_template else [piece.text]
        stretches[-1] += first
        stretches += others
    ids = tokenizer.encode(stretches[0])
    for token, text in zip(stretches[1::2], stretches[2::2], strict=True):
        ids += [tokenizer.special_tokens[token], *tokenizer.encode(text)]
    return ids


def first_special(tokenizer: Tokenizer, text: str) -> int | None:
    """Return the id of the first special token in a text, None if there is none."""
    found = _any_of(tokenizer.special_tokens).search(text)
    return tokenizer.special_tokens[found[0]] if found else None


def _any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """Match any of the tokens, the longest first."""
    return re.compile("(" + "|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) + ")")
