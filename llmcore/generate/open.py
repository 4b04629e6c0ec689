"""Open a model folder with the tokenizer that belongs to it."""

import shlex
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.generate.kind import opens_as_classifier
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.folder import load_classifier, load_language_model
from llmcore.model.gguf_path import find_gguf
from llmcore.model.transformer import LanguageModel, ModelConfig
from llmcore.tokenizer.fast import FAST_FILE
from llmcore.tokenizer.load import has_tokenizer, load_tokenizer
from llmcore.tokenizer.tokenizer import Tokenizer

# a command for the terminal: the folder is an argument, quoted, so that nothing in it is code
CUT_VOCABULARY = (
    "import sys; from transformers import {kind} as M; m = M.from_pretrained(sys.argv[1]); "
    "m.resize_token_embeddings(int(sys.argv[2])); m.save_pretrained(sys.argv[1])"
)


def open_language_model(folder: str | Path, dropout: float | None = None) -> tuple[LanguageModel, Tokenizer]:
    """Read a language model and its tokenizer; `dropout`, if given, replaces the config's in training.

    `folder` may be a GGUF file, which has both, or a folder that holds one. UserError if it is incomplete or damaged,
    or the two do not fit.
    """
    if file := find_gguf(folder):
        from llmcore.generate.open_gguf import open_gguf

        return open_gguf(file, dropout)
    if (Path(folder) / "config.json").is_file() and opens_as_classifier(folder):
        raise UserError(
            f"{folder}: is a classifier, which writes no text; give a language model, or `llmcore classify`"
        )
    model = load_language_model(folder, dropout)
    return model, fitting_tokenizer(folder, model.config)


def open_classifier(folder: str | Path) -> tuple[SequenceClassifier, Tokenizer]:
    """Read a classifier and its tokenizer; UserError as for `open_language_model`."""
    model = load_classifier(folder)
    return model, fitting_tokenizer(folder, model.config, kind="AutoModelForSequenceClassification")


def fitting_tokenizer(folder: str | Path, config: ModelConfig, *, kind: str = "AutoModelForCausalLM") -> Tokenizer:
    """Read the tokenizer of a model folder; UserError if it has none or the model has another number of tokens.

    A tokenizer.json may have fewer: people pad embeddings to round numbers. `kind` is transformers' class for the
    model.
    """
    folder = Path(folder)
    if not has_tokenizer(folder):
        rule = "has no tokenizer.json, and no vocab.json and merges.txt"
        raise UserError(f"{folder}: {rule}; copy the model's tokenizer into the folder")
    tokenizer = load_tokenizer(folder)
    found, needed = tokenizer.vocab_size, config.vocab_size
    if found < needed and not (folder / FAST_FILE).is_file():
        what = f"its vocabulary was padded, or tokens were added: the model has {needed} tokens, its tokenizer {found}"
        command = _command(CUT_VOCABULARY.format(kind=kind), folder, str(found))
        raise UserError(f"{folder}: {what}; if the others are not needed, cut them off: {command}")
    if found > needed:
        rule = f"must have the model's {needed} tokens, got {found}"
        raise UserError(f"{folder}: the tokenizer {rule}; give files that belong together")
    return tokenizer


def _command(code: str, *arguments: str | Path) -> str:
    return f'python -c "{code}" {shlex.join(map(str, arguments))}'
