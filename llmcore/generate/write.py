"""Text in, text out: what the command line, the evaluation and served models share."""

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from llmcore.base.containers import common_length
from llmcore.base.errors import UserError
from llmcore.base.seeds import derive
from llmcore.config.generation import GenerationConfig
from llmcore.generate.decode import decode, started, stream
from llmcore.generate.decoder import FinishReason, NewToken
from llmcore.generate.text_stream import TextStream
from llmcore.model.folder import read_config
from llmcore.model.gguf_path import find_gguf
from llmcore.model.transformer import LanguageModel
from llmcore.tokenizer.chat import Message
from llmcore.tokenizer.prompt import FORMS, PROMPT_KEY, answer_end, encode_chat, encode_prompt
from llmcore.tokenizer.tokenizer import Tokenizer
from llmcore.tokenizer.tokenizer_config import read_tokenizer_config


@dataclass(frozen=True)
class Continuation:
    """What a model wrote, token by token, and why it ended; a stop token is no part of the text."""

    text: str
    finish_reason: FinishReason
    tokens: tuple[NewToken, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it ended by itself and was not cut."""
        return self.finish_reason == "stop"


class TextPiece(NamedTuple):
    """More text of a continuation, perhaps none yet, with the token that it came with."""

    key: Hashable  # of the continuation
    text: str
    token: NewToken
    finish_reason: FinishReason | None  # with the last piece


class Prompts(NamedTuple):
    """Prompts, and at which tokens their continuations stop."""

    ids: list[list[int]]
    stop_ids: frozenset[int]


def prompt_form(folder: str | Path) -> str:
    """Return the form in which a model folder wants its prompts: the one that its config.json names.

    A model from elsewhere names none: the form is its own chat template, if it has one, and otherwise Alpaca's.
    """
    if file := find_gguf(folder):
        from llmcore.generate.open_gguf import form_of

        return form_of(file)
    _, _, values = read_config(folder)
    form = values.get(PROMPT_KEY, "template" if "chat_template" in read_tokenizer_config(folder) else "alpaca")
    if not isinstance(form, str) or form not in FORMS:
        rule = f"{PROMPT_KEY} must be one of {', '.join(FORMS)}, got {form!r}"
        raise UserError(f"{folder}/config.json: {rule}; correct it")
    return form


def names_form(folder: str | Path) -> bool:
    """Return whether a model folder says in which form it wants its prompts; a GGUF file says so by its template."""
    return not find_gguf(folder) and PROMPT_KEY in read_config(folder)[2]


# ---- prompts


def text_prompts(tokenizer: Tokenizer, texts: Sequence[str]) -> Prompts:
    """Read each text as the beginning of a document."""
    return Prompts([[*tokenizer.document_start, *tokenizer.encode(text)] for text in texts], tokenizer.stop_ids)


def instruction_prompts(tokenizer: Tokenizer, form: str, instructions: Sequence[tuple[str, str]]) -> Prompts:
    """Ask each (instruction, input) in `form`."""
    ids = [encode_prompt(tokenizer, form, instruction, input).ids for instruction, input in instructions]
    return Prompts(ids, tokenizer.stop_ids | {answer_end(tokenizer, form)})


def chat_prompt(tokenizer: Tokenizer, form: str, messages: Sequence[Message]) -> Prompts:
    """Ask for the next answer of a chat."""
    return Prompts([encode_chat(tokenizer, form, messages)], tokenizer.stop_ids | {answer_end(tokenizer, form)})


def fit_chat(
    model: LanguageModel, tokenizer: Tokenizer, form: str, messages: Sequence[Message], max_new_tokens: int
) -> tuple[list[Message], int]:
    """Leave out the oldest messages, a system message apart, until the chat leaves room for an answer.

    Return those kept and the number left out. The room is `max_new_tokens`, or a quarter of the context if that is
    less. UserError if the last message alone is too long.
    """
    room = model.config.context_length - min(max_new_tokens, model.config.context_length // 4)
    system = [message for message in messages[:1] if message["role"] == "system"]
    turns = list(messages[len(system) :])
    # an answer whose question is gone goes, too
    begins = [place for place, turn in enumerate(turns) if place == 0 or turn["role"] != "assistant"]

    def tokens(begin: int) -> int:
        return len(encode_chat(tokenizer, form, [*system, *turns[begin:]]))

    # by halving, as a long chat is encoded anew for each try: fewer messages have fewer tokens
    tried = 0 if tokens(0) <= room else bisect_left(begins, True, lo=1, key=lambda begin: tokens(begin) <= room)
    if tried < len(begins):
        return [*system, *turns[begins[tried] :]], begins[tried]
    rule = f"must have at most {room} tokens, got {tokens(begins[-1])} with the last one"
    raise UserError(f"messages: {rule}{' and the system message' if system else ''}; shorten them")


def check_room(model: LanguageModel, tokenizer: Tokenizer, form: str, instructions: Sequence[tuple[str, str]]) -> None:
    """UserError for an instruction whose prompt leaves no room for an answer in the context."""
    room = model.config.context_length - 1
    for ids in instruction_prompts(tokenizer, form, instructions).ids:
        if len(ids) > room:
            raise UserError(f"instruction: its prompt must have at most {room} tokens, got {len(ids)}; shorten it")


# ---- writing


def stream_texts(
    model: LanguageModel, tokenizer: Tokenizer, prompts: Prompts, config: GenerationConfig
) -> Iterator[TextPiece]:
    """Continue all prompts together and yield their text as it is certain; `config.stop` ends a continuation too.

    Continuations are numbered as by `llmcore.generate.decode.stream`, and errors are its.
    """
    of = [ids for ids in prompts.ids for _ in range(config.n)]
    texts: dict[Hashable, TextStream] = {
        number: TextStream(tokenizer, ids, config.stop) for number, ids in enumerate(of)
    }
    if config.num_beams > 1:
        for new in stream(model, prompts.ids, config, stop_ids=prompts.stop_ids):
            if not texts[new.key].stopped:
                yield text_piece(texts[new.key], new)
        return
    decoder = started(model, prompts.ids, config, stop_ids=prompts.stop_ids)
    while decoder.busy:
        for new in decoder.step():
            if texts[new.key].stopped:
                continue  # guessed ahead
            yield text_piece(texts[new.key], new)
            if texts[new.key].stopped:
                decoder.remove(new.key)


def text_piece(text: TextStream, new: NewToken) -> TextPiece:
    """Return what a new token adds to the text of its continuation."""
    added = "" if new.finish_reason == "stop" else text.push(new.token)
    if new.finish_reason:
        added += text.flush()
    return TextPiece(new.key, added, new, "stop" if text.stopped else new.finish_reason)


def write(model: LanguageModel, tokenizer: Tokenizer, prompts: Prompts, config: GenerationConfig) -> list[Continuation]:
    """Return the continuations that `stream_texts` yields, by their number."""
    if not config.stop:  # the text is decoded once, at the end
        completions = decode(model, prompts.ids, config, stop_ids=prompts.stop_ids)
        of = [prompt for prompt in prompts.ids for _ in range(config.n)]
        return [
            Continuation(text_behind(tokenizer, prompt, found.ids), found.finish_reason, tuple(found.tokens))
            for prompt, found in zip(of, completions, strict=True)
        ]
    pieces: dict[Hashable, list[TextPiece]] = {number: [] for number in range(config.n * len(prompts.ids))}
    for piece in stream_texts(model, tokenizer, prompts, config):
        pieces[piece.key].append(piece)
    return [collected(of_one) for of_one in pieces.values()]


def of_part(config: GenerationConfig, number: int) -> GenerationConfig:
    """Return the settings for part `number` of many prompts, which are written a few at a time.

    The first has the seed as it is; each other has its own, so that a prompt given many times is continued in many
    ways.
    """
    return replace(config, seed=derive(config.seed, "batch", number)) if number else config


def collected(pieces: Sequence[TextPiece]) -> Continuation:
    """Put the pieces of one continuation together."""
    reason = pieces[-1].finish_reason
    assert reason is not None
    return Continuation("".join(piece.text for piece in pieces), reason, tuple(piece.token for piece in pieces))


def continue_texts(
    model: LanguageModel, tokenizer: Tokenizer, texts: Sequence[str], config: GenerationConfig
) -> list[Continuation]:
    """Continue each text as the beginning of a document; the text itself is not repeated.

    UserError for one that leaves no room in the context.
    """
    return write(model, tokenizer, text_prompts(tokenizer, texts), config)


def answer_instructions(
    model: LanguageModel,
    tokenizer: Tokenizer,
    form: str,
    instructions: Sequence[tuple[str, str]],
    config: GenerationConfig,
) -> list[Continuation]:
    """Answer each (instruction, input), asked in `form`; a prompt that fills the context gets no answer."""
    prompts = instruction_prompts(tokenizer, form, instructions)
    fitting = [row for row, ids in enumerate(prompts.ids) if len(ids) < model.config.context_length]
    written = write(model, tokenizer, prompts._replace(ids=[prompts.ids[row] for row in fitting]), config)
    answers = [Continuation("", "context")] * len(prompts.ids)
    for row, found in zip(fitting, written, strict=True):
        answers[row] = Continuation(found.text.strip(), found.finish_reason, found.tokens)
    return answers


def text_behind(tokenizer: Tokenizer, prompt: Sequence[int], ids: Sequence[int]) -> str:
    """Return the text of `ids` as it continues the prompt: some decoders drop the space before a text's first word."""
    before, whole = (tokenizer.decode(part, skip_special_tokens=True) for part in (prompt, [*prompt, *ids]))
    return whole[common_length(before, whole) :]  # not all of `before` where a prompt ends within a character
