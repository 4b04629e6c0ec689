"""Text in, text out: what the command line, the evaluation and served models share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.generate.decode import decode
from llmcore.generate.sampling import Sampling
from llmcore.model.folder import read_config
from llmcore.model.gpt2 import GPT
from llmcore.tasks.instructions import log_likelihoods, make_example
from llmcore.tokenizer.bpe import Tokenizer
from llmcore.tokenizer.prompt import FORMS, PROMPT_KEY, prompt


@dataclass(frozen=True)
class Continuation:
    """What a model wrote, and whether it ended by itself or was cut off."""

    text: str
    ended: bool


def prompt_form(folder: str | Path) -> str:
    """Return the form in which a model folder wants its prompts: what its config says, else Alpaca's."""
    form = read_config(folder)[1].get(PROMPT_KEY, FORMS[0])
    if form not in FORMS:
        raise UserError(
            f"{folder}/config.json: {PROMPT_KEY} must be one of {', '.join(FORMS)}, got {form!r}; correct it"
        )
    return form


def continue_texts(
    model: GPT, tokenizer: Tokenizer, texts: Sequence[str], *, max_new_tokens: int, sampling: Sampling, seed: int
) -> list[Continuation]:
    """Continue each text as the beginning of a document; the text itself is not repeated."""
    prompts = [[tokenizer.end_of_text, *tokenizer.encode(text)] for text in texts]
    return _continue(model, tokenizer, prompts, max_new_tokens, sampling, seed)


def answer_instructions(
    model: GPT,
    tokenizer: Tokenizer,
    instructions: Sequence[tuple[str, str]],
    *,
    form: str,
    max_new_tokens: int,
    sampling: Sampling,
    seed: int,
) -> list[Continuation]:
    """Answer each (instruction, input), asked in `form`; a prompt that fills the context gets no answer."""
    prompts = [tokenizer.encode(prompt(form, instruction, input)) for instruction, input in instructions]
    fitting = [row for row, ids in enumerate(prompts) if len(ids) < model.config.context_length]
    written = _continue(model, tokenizer, [prompts[row] for row in fitting], max_new_tokens, sampling, seed)
    answers = [Continuation("", ended=False)] * len(prompts)
    for row, continuation in zip(fitting, written, strict=True):
        answers[row] = Continuation(continuation.text.strip(), continuation.ended)
    return answers


def answer_likelihoods(
    model: GPT, tokenizer: Tokenizer, form: str, rows: Sequence[Mapping[str, str]], *, batch_size: int
) -> list[float]:
    """Return the natural log of the probability that the model gives to each row's `output` and its end.

    Of a row longer than the context, the part that fits counts.
    """
    end, room = tokenizer.end_of_text, model.config.context_length
    examples = [
        make_example(row, tokenizer.encode, end_of_text=end, form=form, mask="instruction+input", max_tokens=room)
        for row in rows
    ]
    return log_likelihoods(model, examples, batch_size=batch_size, pad_id=end)


def _continue(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling,
    seed: int,
) -> list[Continuation]:
    written = decode(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        seed=seed,
        stop_id=tokenizer.end_of_text,
    )
    room = [min(max_new_tokens, model.config.context_length - len(ids)) for ids in prompts]
    return [Continuation(tokenizer.decode(ids), len(ids) < limit) for ids, limit in zip(written, room, strict=True)]
