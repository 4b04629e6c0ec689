"""Open a model folder with the tokenizer that belongs to it."""

from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.model.classifier import GPTClassifier
from llmcore.model.classifier_folder import load_classifier
from llmcore.model.folder import load_gpt
from llmcore.model.gpt2 import GPT, GPTConfig
from llmcore.tokenizer.bpe import Tokenizer, load_tokenizer


def open_gpt(folder: str | Path, dropout: float | None = None) -> tuple[GPT, Tokenizer]:
    """Read a language model and its tokenizer; `dropout`, if given, replaces the config's in training.

    UserError if the folder is incomplete or damaged, or the two do not fit.
    """
    model = load_gpt(folder, dropout)
    return model, fitting_tokenizer(folder, model.config)


def open_classifier(folder: str | Path) -> tuple[GPTClassifier, Tokenizer]:
    """Read a classifier and its tokenizer; UserError as for `open_gpt`."""
    model = load_classifier(folder)
    return model, fitting_tokenizer(folder, model.config)


def fitting_tokenizer(folder: str | Path, config: GPTConfig) -> Tokenizer:
    """Read the tokenizer of a model folder; UserError if the model has another number of tokens."""
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size != config.vocab_size:
        rule = f"must have the model's {config.vocab_size} tokens, got {tokenizer.vocab_size}"
        raise UserError(f"{folder}: the tokenizer {rule}; give files that belong together")
    return tokenizer
