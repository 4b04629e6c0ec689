"""`llmcore generate` and `llmcore ask`: prompts in, text or JSON lines out, as they are written."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcore.base.containers import chunks
from llmcore.base.errors import UserError
from llmcore.base.text import checked_input, normalise_input
from llmcore.commands.options import add_generation_options, generation_config, open_for_generation, warn_base
from llmcore.commands.standard_input import read_standard_input
from llmcore.config.generation import ANSWER, STORY, GenerationConfig

if TYPE_CHECKING:
    from llmcore.commands.explain import Explanation
    from llmcore.generate.write import Continuation, Prompts
    from llmcore.model.transformer import LanguageModel
    from llmcore.tokenizer.tokenizer import Tokenizer

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

PROMPTS_AT_A_TIME = 8  # of a file: each has a cache of keys and values


def add_generate(commands: "Commands") -> None:
    generate = commands.add_parser("generate", help="continue a text")
    generate.add_argument(
        "prompt", nargs="?", default="", help="how the text begins; - is standard input (default: nothing)"
    )
    file = "the prompt from a text file, or many from the field `prompt` of a .jsonl file"
    generate.add_argument("--file", metavar="FILE", help=file)
    _output_options(generate)
    add_generation_options(generate, "models/pretrain", STORY)
    generate.set_defaults(run=run_generate)


def add_ask(commands: "Commands") -> None:
    ask = commands.add_parser("ask", help="answer an instruction")
    ask.add_argument("instruction", help="what is to be done; - is standard input")
    ask.add_argument("--input", default="", help="what the instruction is about")
    _output_options(ask)
    add_generation_options(ask, "models/instruct", ANSWER)
    ask.set_defaults(run=run_ask)


def _output_options(command: argparse.ArgumentParser) -> None:
    help = "write a JSON line for each continuation: prompt, text, finish_reason, with --explain tokens"
    command.add_argument("--json", action="store_true", help=help)


def run_generate(arguments: argparse.Namespace) -> None:
    config = generation_config(arguments)
    prompts = _read_prompts(arguments)
    from llmcore.generate.write import text_prompts

    model, tokenizer = open_for_generation(arguments)
    for config_of_part, part in _parts(prompts, config):
        shown = Output(arguments, model, tokenizer, part, repeats_prompt=True)
        shown.write(text_prompts(tokenizer, part), config_of_part)


def run_ask(arguments: argparse.Namespace) -> None:
    config = generation_config(arguments)
    instruction = read_standard_input() if arguments.instruction == "-" else arguments.instruction
    instruction = checked_input(instruction, "INSTRUCTION")
    if not instruction.strip():
        raise UserError("INSTRUCTION: must not be empty; say what is to be done")
    from llmcore.generate.write import check_room, instruction_prompts, prompt_form

    model, tokenizer = open_for_generation(arguments)
    form = prompt_form(arguments.model)
    warn_base(arguments.model, tokenizer)
    asked = [(instruction, checked_input(arguments.input, "--input"))]
    check_room(model, tokenizer, form, asked)
    shown = Output(arguments, model, tokenizer, [instruction], repeats_prompt=False)
    shown.write(instruction_prompts(tokenizer, form, asked), config)


def _read_prompts(arguments: argparse.Namespace) -> list[str]:
    """Return the prompts of the argument, a file or standard input."""
    if arguments.file is None:
        prompt = read_standard_input() if arguments.prompt == "-" else arguments.prompt
        return [checked_input(prompt, "prompt")]
    if arguments.prompt:
        raise UserError("--file: cannot be given beside a prompt; leave one of them out")
    from llmcore.base.files import read_bytes, read_jsonl

    path = Path(arguments.file)
    if not path.is_file():
        raise UserError(f"--file: must name a file, got {str(path)!r}; correct it")
    if path.suffix.lower() == ".jsonl":
        rows = list(read_jsonl(path))
        if not rows:
            raise UserError(f"{path}: must have at least one row, got none; add one")
        for number, row in enumerate(rows, 1):
            if not isinstance(row.get("prompt"), str):
                raise UserError(f"{path}: line {number} must have a text `prompt`, got {row.get('prompt')!r}; add it")
        return [checked_input(row["prompt"], f"{path}: line {number}") for number, row in enumerate(rows, 1)]
    try:
        return [normalise_input(read_bytes(path).decode("utf-8")).removesuffix("\n")]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be UTF-8 text ({error}); convert it") from None


def _parts(prompts: Sequence[str], config: GenerationConfig) -> Iterator[tuple[GenerationConfig, list[str]]]:
    """Yield prompts that are continued together, with the settings: each part has a seed of its own."""
    from llmcore.generate.write import of_part

    for number, part in enumerate(chunks(list(prompts), PROMPTS_AT_A_TIME)):
        yield of_part(config, number), part


class Output:
    """Writes continuations to standard output: one at a time as it comes, several in order when they are complete."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        model: "LanguageModel",
        tokenizer: "Tokenizer",
        prompts: Sequence[str],
        *,
        repeats_prompt: bool,
    ):
        self.arguments = arguments
        self.model = model
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.repeats_prompt = repeats_prompt

    def write(self, prompts: "Prompts", config: GenerationConfig) -> None:
        from llmcore.generate.write import stream_texts, write

        explains = config.top_logprobs is not None
        if len(prompts.ids) * config.n == 1 and not self.arguments.json and not explains:
            pieces = stream_texts(self.model, self.tokenizer, prompts, config)
            self._stream((piece.text, piece.finish_reason) for piece in pieces)
            return
        found = write(self.model, self.tokenizer, prompts, config)
        for number, continuation in enumerate(found):
            prompt = number // config.n
            explained = self._explained(prompts.ids[prompt], continuation) if explains else None
            self._print(self.prompts[prompt], continuation, explained, several=len(found) > 1)
            self._say_cut(continuation.finish_reason)

    def _stream(self, pieces: Iterator[tuple[str, str | None]]) -> None:
        ended = None
        before = self.prompts[0] if self.repeats_prompt else ""  # printed with the first token: an error comes alone
        for text, reason in pieces if self.repeats_prompt else _stripped(pieces):
            print(before + text, end="", flush=True)
            before, ended = "", reason
        print(flush=True)
        self._say_cut(ended)

    def _explained(self, prompt: list[int], continuation: "Continuation") -> "list[Explanation]":
        from llmcore.commands.explain import explain

        return explain(self.tokenizer, prompt, continuation.tokens)

    def _print(
        self, prompt: str, continuation: "Continuation", explained: "list[Explanation] | None", *, several: bool
    ) -> None:
        text = continuation.text if self.repeats_prompt else continuation.text.strip()
        if self.arguments.json:
            given = {"input": self.arguments.input} if getattr(self.arguments, "input", "") else {}
            row: dict[str, Any] = {"prompt": prompt, **given, "text": text}
            row["finish_reason"] = continuation.finish_reason
            if explained is not None:
                row["tokens"] = [explanation._asdict() for explanation in explained]
            print(json.dumps(row, ensure_ascii=False), flush=True)
        elif explained is not None:
            from llmcore.commands.explain import table

            print(table(explained), flush=True)
        else:
            print(prompt + text if self.repeats_prompt else text, flush=True)
        if several and not self.arguments.json:
            print("---", flush=True)

    def _say_cut(self, reason: str | None) -> None:
        if reason == "context":
            context = self.model.config.context_length
            print(f"the text ends here: the model's context of {context} tokens is full", file=sys.stderr)
        elif reason == "length" and not self.repeats_prompt:
            print(f"the answer was cut at --max-new-tokens {self.arguments.max_new_tokens}", file=sys.stderr)


def _stripped(pieces: Iterator[tuple[str, str | None]]) -> Iterator[tuple[str, str | None]]:
    """Leave out white space before and behind the whole text, as evaluation does with an answer."""
    begun, held = False, ""
    for text, reason in pieces:
        text = held + text if begun else text.lstrip()
        shown = text.rstrip()
        held = text[len(shown) :]
        begun = begun or bool(shown)
        yield shown, reason
