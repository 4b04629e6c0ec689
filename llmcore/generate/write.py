"""Text in, text out: what the command line, the evaluation and served models share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.config.generation import GenerationConfig
from llmcore.generate.decode import decode
from llmcore.model.folder import read_config
from llmcore.model.gguf_path import find_gguf
from llmcore.model.transformer import LanguageModel
from llmcore.tokenizer.prompt import FORMS, PROMPT_KEY, answer_end, encode_prompt
from llmcore.tokenizer.tokenizer import Tokenizer
from llmcore.tokenizer.tokenizer_config import read_tokenizer_config


@dataclass(frozen=True)
class Continuation:
    """What a model wrote, and whether it ended by itself or was cut off."""

    text: str
    ended: bool


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


def continue_texts(
    model: LanguageModel, tokenizer: Tokenizer, texts: Sequence[str], config: GenerationConfig
) -> list[Continuation]:
    """Continue each text as the beginning of a document; the text itself is not repeated.

    UserError for one that leaves no room in the context.
    """
    prompts = [[*tokenizer.document_start, *tokenizer.encode(text)] for text in texts]
    return _continue(model, tokenizer, prompts, config, tokenizer.stop_ids)


def answer_instructions(
    model: LanguageModel,
    tokenizer: Tokenizer,
    form: str,
    instructions: Sequence[tuple[str, str]],
    config: GenerationConfig,
) -> list[Continuation]:
    """Answer each (instruction, input), asked in `form`; a prompt that fills the context gets no answer."""
    prompts = [encode_prompt(tokenizer, form, instruction, input).ids for instruction, input in instructions]
    fitting = [row for row, ids in enumerate(prompts) if len(ids) < model.config.context_length]
    stop_ids = tokenizer.stop_ids | {answer_end(tokenizer, form)}
    written = _continue(model, tokenizer, [prompts[row] for row in fitting], config, stop_ids)
    answers = [Continuation("", ended=False)] * len(prompts)
    for row, continuation in zip(fitting, written, strict=True):
        answers[row] = Continuation(continuation.text.strip(), continuation.ended)
    return answers


def check_room(model: LanguageModel, tokenizer: Tokenizer, form: str, instructions: Sequence[tuple[str, str]]) -> None:
    """UserError for an instruction whose prompt leaves no room for an answer in the context."""
    room = model.config.context_length - 1
    for instruction, input in instructions:
        tokens = len(encode_prompt(tokenizer, form, instruction, input).ids)
        if tokens > room:
            raise UserError(f"instruction: its prompt must have at most {room} tokens, got {tokens}; shorten it")


def _continue(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    stop_ids: frozenset[int],
) -> list[Continuation]:
    written = decode(model, prompts, config, stop_ids=stop_ids)
    room = [min(config.max_new_tokens, model.config.context_length - len(ids)) for ids in prompts]
    texts = [_text_behind(tokenizer, prompt, ids) for prompt, ids in zip(prompts, written, strict=True)]
    return [Continuation(text, len(ids) < limit) for text, ids, limit in zip(texts, written, room, strict=True)]


def _text_behind(tokenizer: Tokenizer, prompt: Sequence[int], ids: Sequence[int]) -> str:
    """Return the text of `ids` as it continues the prompt: some decoders drop the space before a text's first word."""
    before, whole = (tokenizer.decode(part, skip_special_tokens=True) for part in (prompt, [*prompt, *ids]))
    if whole.startswith(before):
        return whole.removeprefix(before)
    return tokenizer.decode(ids, skip_special_tokens=True)
