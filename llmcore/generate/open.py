"""Open a model folder with the tokenizer that belongs to it."""

from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.folder import load_classifier, load_language_model
from llmcore.model.transformer import LanguageModel, ModelConfig
from llmcore.tokenizer.bpe import Tokenizer, load_tokenizer


def open_language_model(folder: str | Path, dropout: float | None = None) -> tuple[LanguageModel, Tokenizer]:
    """Read a language model and its tokenizer; `dropout`, if given, replaces the config's in training.

    UserError if the folder is incomplete or damaged, or the two do not fit.
    """
    model = load_language_model(folder, dropout)
    return model, fitting_tokenizer(folder, model.config)


def open_classifier(folder: str | Path) -> tuple[SequenceClassifier, Tokenizer]:
    """Read a classifier and its tokenizer; UserError as for `open_language_model`."""
    model = load_classifier(folder)
    return model, fitting_tokenizer(folder, model.config)


def fitting_tokenizer(folder: str | Path, config: ModelConfig) -> Tokenizer:
    """Read the tokenizer of a model folder; UserError if the model has another number of tokens."""
    tokenizer = load_tokenizer(folder)
    if tokenizer.vocab_size != config.vocab_size:
        rule = f"must have the model's {config.vocab_size} tokens, got {tokenizer.vocab_size}"
        raise UserError(f"{folder}: the tokenizer {rule}; give files that belong together")
    return tokenizer
