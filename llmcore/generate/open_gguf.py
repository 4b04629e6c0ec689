"""Open a GGUF file: model, tokenizer and the form of its prompts."""

from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.model.gguf import load_gguf, read_metadata
from llmcore.model.transformer import LanguageModel
from llmcore.tokenizer.gguf import CHAT_TEMPLATE, tokenizer_from_gguf
from llmcore.tokenizer.prompt import FORMS
from llmcore.tokenizer.tokenizer import Tokenizer


def open_gguf(path: Path, dropout: float | None = None) -> tuple[LanguageModel, Tokenizer]:
    """Read a language model and its tokenizer; UserError if the file is damaged or the two do not fit."""
    tokenizer = tokenizer_from_gguf(read_metadata(path), str(path))
    model = load_gguf(path, dropout)
    if tokenizer.vocab_size > model.config.vocab_size:
        rule = f"tokenizer.ggml.tokens must be the model's {model.config.vocab_size:,} at most"
        raise UserError(f"{path}: {rule}, got {tokenizer.vocab_size:,}; give another file")
    return model, tokenizer


def form_of(path: Path) -> str:
    """Return the form of a file's prompts: the one whose template it has, by default Alpaca's."""
    template = read_metadata(path).get(CHAT_TEMPLATE)
    if not isinstance(template, str):
        return "alpaca"
    known = (name for name, form in FORMS.items() if form.template and template.endswith(form.template))
    return next(known, "template")
