"""The options of generation on the command line: one for each setting of `GenerationConfig`."""

import argparse
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

from llmcore.config.generation import PRECISIONS, GenerationConfig

if TYPE_CHECKING:
    from llmcore.model.transformer import LanguageModel
    from llmcore.tokenizer.tokenizer import Tokenizer

SHOWN = "(default: %(default)s)"


def add_generation_options(command: argparse.ArgumentParser, model: str, default: GenerationConfig) -> None:
    """Add the model and how its tokens are chosen; `generation_config` reads them."""
    command.add_argument("--model", default=model, metavar="FOLDER", help=SHOWN)
    add_precision(command)
    choice = command.add_argument_group("choice of tokens, in the order in which the settings work")

    def add(name: str, kind: type, metavar: str, help: str) -> None:
        value = getattr(default, name.replace("-", "_"))
        choice.add_argument(f"--{name}", type=kind, default=value, metavar=metavar, help=f"{help} {SHOWN}".strip())

    add("repetition-penalty", float, "X", "above 1: tokens of the prompt and the text become less likely")
    add("frequency-penalty", float, "X", "taken from a logit for each time that the text has the token")
    add("presence-penalty", float, "X", "taken once from the logits of tokens that the text has")
    choice.add_argument(
        "--suppress-tokens", type=ids, default=default.suppress_tokens, metavar="ID,ID", help="tokens that never come"
    )
    choice.add_argument(
        "--forced-tokens", type=ids, default=default.forced_tokens, metavar="ID,ID", help="tokens that come first"
    )
    temperature = f"0 takes the likeliest token (default: {default.temperature}, with beams 0)"
    choice.add_argument("--temperature", type=float, metavar="T", help=temperature)
    command.set_defaults(default_temperature=default.temperature)
    add("top-k", int, "K", "keep the K likeliest; 0 keeps all")
    add("top-p", float, "P", "keep the likeliest that have this probability together; 1 keeps all")
    add("min-p", float, "P", "keep those with this share of the likeliest one's probability; 0 keeps all")
    add("seed", int, "N", "of the draws")
    add("num-beams", int, "N", "beam search; 1 is none")
    add("length-penalty", float, "X", "of beams: above 0 favours long texts")
    ends = command.add_argument_group("end, number, speed")
    ends.add_argument("--max-new-tokens", type=int, default=default.max_new_tokens, metavar="N", help=SHOWN)
    ends.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be given several times"
    )
    ends.add_argument("-n", type=int, default=default.n, metavar="N", help=f"continuations of each prompt {SHOWN}")
    ends.add_argument(
        "--prompt-lookup-num-tokens",
        type=int,
        default=default.prompt_lookup_num_tokens,
        metavar="N",
        help=f"guess up to N tokens from the text so far: the same text, sooner where it repeats itself {SHOWN}",
    )
    ends.add_argument(
        "--explain",
        type=int,
        nargs="?",
        const=5,
        metavar="K",
        dest="top_logprobs",
        help="show each token's probability and the K likeliest instead (5 without a number)",
    )


def add_precision(command: argparse.ArgumentParser) -> None:
    """Add how exact weights are; fewer bits are read sooner."""
    command.add_argument("--precision", choices=PRECISIONS, default="fp32", help=f"of the weights, on a CPU {SHOWN}")


def ids(text: str) -> tuple[int, ...]:
    """Read token ids with commas between them."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be ids with commas between them, such as 3,17, got {text!r}") from None


def generation_config(arguments: argparse.Namespace) -> GenerationConfig:
    """Return the options of generation; UserError if one is out of range."""
    given = {field.name: getattr(arguments, field.name) for field in fields(GenerationConfig)}
    if given["temperature"] is None:
        given["temperature"] = 0.0 if arguments.num_beams > 1 else arguments.default_temperature
    config = GenerationConfig(**given | {"stop": tuple(given["stop"])})
    config.check(spelled=option)
    return config


def option(name: str) -> str:
    """Return a setting as it is written on the command line."""
    return {"n": "-n", "top_logprobs": "--explain"}.get(name, f"--{name.replace('_', '-')}")


def open_for_generation(arguments: argparse.Namespace) -> "tuple[LanguageModel, Tokenizer]":
    """Open the model that generates."""
    from llmcore.generate.open import open_language_model
    from llmcore.model.packed import prepare_for_decoding

    model, tokenizer = open_language_model(arguments.model)
    prepare_for_decoding(model, arguments.precision)
    return model, tokenizer


def warn_base(folder: str, tokenizer: "Tokenizer") -> None:
    """Say that a model has not learned to answer, where nothing in its folder says that it has."""
    from llmcore.generate.write import names_form

    if not names_form(folder) and tokenizer.chat_template is None:
        print(f"{folder}: names no form of prompts, so it may not have learned to answer", file=sys.stderr)
