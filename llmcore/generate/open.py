"""Open a model folder with the tokenizer that belongs to it."""

import shlex
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.folder import load_classifier, load_language_model
from llmcore.model.transformer import LanguageModel, ModelConfig
from llmcore.tokenizer.bpe import Tokenizer, load_tokenizer

# commands for the terminal: the folder is an argument, quoted, so that nothing in it is code
SPLIT_TOKENIZER = (
    "import json, sys; from pathlib import Path as P; f = P(sys.argv[1]); "
    "m = json.loads((f / 'tokenizer.json').read_text('utf-8'))['model']; "
    "(f / 'vocab.json').write_text(json.dumps(m['vocab']), 'utf-8'); "
    "lines = [x if isinstance(x, str) else ' '.join(x) for x in m['merges']]; "
    "(f / 'merges.txt').write_text(chr(10).join(lines), 'utf-8')"
)
CUT_VOCABULARY = (
    "import sys; from transformers import {kind} as M; m = M.from_pretrained(sys.argv[1]); "
    "m.resize_token_embeddings(int(sys.argv[2])); m.save_pretrained(sys.argv[1])"
)


def open_language_model(folder: str | Path, dropout: float | None = None) -> tuple[LanguageModel, Tokenizer]:
    """Read a language model and its tokenizer; `dropout`, if given, replaces the config's in training.

    UserError if the folder is incomplete or damaged, or the two do not fit.
    """
    model = load_language_model(folder, dropout)
    return model, fitting_tokenizer(folder, model.config)


def open_classifier(folder: str | Path) -> tuple[SequenceClassifier, Tokenizer]:
    """Read a classifier and its tokenizer; UserError as for `open_language_model`."""
    model = load_classifier(folder)
    return model, fitting_tokenizer(folder, model.config, kind="AutoModelForSequenceClassification")


def fitting_tokenizer(folder: str | Path, config: ModelConfig, *, kind: str = "AutoModelForCausalLM") -> Tokenizer:
    """Read the tokenizer of a model folder; UserError if it has none or the model has another number of tokens.

    `kind` is transformers' class for the model.
    """
    folder = Path(folder)
    if not has_tokenizer(folder):
        if (folder / "tokenizer.json").is_file():
            remedy = f"make them once: {_command(SPLIT_TOKENIZER, folder)}"
            raise UserError(f"{folder}: has only tokenizer.json, but vocab.json and merges.txt are needed; {remedy}")
        raise UserError(f"{folder}: has no vocab.json and merges.txt; copy the model's tokenizer into the folder")
    tokenizer = load_tokenizer(folder)
    found, needed = tokenizer.vocab_size, config.vocab_size
    if found < needed:
        what = f"its vocabulary was padded, or tokens were added: the model has {needed} tokens, its tokenizer {found}"
        command = _command(CUT_VOCABULARY.format(kind=kind), folder, str(found))
        raise UserError(f"{folder}: {what}; if the others are not needed, cut them off: {command}")
    if found > needed:
        rule = f"must have the model's {needed} tokens, got {found}"
        raise UserError(f"{folder}: the tokenizer {rule}; give files that belong together")
    return tokenizer


def has_tokenizer(folder: Path) -> bool:
    """Return whether a model folder has a file of the tokenizer that is read here."""
    return (folder / "vocab.json").is_file() or (folder / "merges.txt").is_file()


def _command(code: str, *arguments: str | Path) -> str:
    return f'python -c "{code}" {shlex.join(map(str, arguments))}'
