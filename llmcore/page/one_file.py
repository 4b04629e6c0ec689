"""A language model as one HTML page that computes in the browser: weights, tokenizer and code are inside.

The page fetches nothing, and its Content-Security-Policy forbids it to. Its code is the modules of `assets/` in one
script, in which each file comes after those that it imports.
"""

import base64
import hashlib
import json
import re
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.base.files import write_text
from llmcore.base.origin import NOT_STATED
from llmcore.generate.kind import opens_as_classifier
from llmcore.generate.open import open_language_model
from llmcore.model.gguf_path import SUFFIX, source_of
from llmcore.model.registry import architecture
from llmcore.model.transformer import LanguageModel, parameter_counts
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.byte_level import END_OF_TEXT
from llmcore.tokenizer.tokenizer import Tokenizer

ASSETS = Path(__file__).parent / "assets"
MODEL_TYPES = ("gpt2", "llama", "mistral", "qwen2", "qwen3")  # that model.js computes
MAX_WEIGHT_BYTES = 20_000_000  # a page of more takes long to open, and a token long to compute
IMPORT = re.compile(r'^import .* from "\./(\w+\.js)";\n', re.MULTILINE)
FLOAT32_BYTES = 4


class NoPageError(UserError):
    """The model has no page: it is too large for one, or of a kind that the page does not compute."""


def export_html(folder: Path, out: Path | None = None) -> str:
    """Write the page of a language model, by default to `exports/NAME.html`, and return what to do with it.

    Equal models give equal bytes. NoPageError for a model that no page can compute.
    """
    name = folder.resolve().name.removesuffix(SUFFIX)
    out = out or Path("exports") / f"{name}.html"
    if out.suffix != ".html":
        raise UserError(f"--out: must end in .html, got {str(out)!r}; correct it")
    if opens_as_classifier(folder):
        raise UserError(f"{folder}: is a classifier, and the page writes text; export a language model")
    model, tokenizer = open_language_model(folder)
    check_fits(folder, model, tokenizer)
    licence = source_of(folder).licence
    source = "Made by llmcore." if licence == NOT_STATED else f"Made by llmcore. Licence of the model: {licence}."
    assert isinstance(tokenizer, BytePairTokenizer)
    write_text(out, page(name, source, model, tokenizer))
    return f"{out}: {out.stat().st_size / 1e6:,.1f} MB; open it in a browser"


def check_fits(folder: Path, model: LanguageModel, tokenizer: Tokenizer) -> None:
    """NoPageError for a model that is sound and yet not one that a page can compute."""
    server = "or use `llmcore serve`"
    if model.config.model_type not in MODEL_TYPES:
        rule = f"a page computes {', '.join(MODEL_TYPES)}, got {model.config.model_type}"
        raise NoPageError(f"{folder}: {rule}; export another model, {server}")
    size = parameter_counts(model)["parameters"] * FLOAT32_BYTES
    if size > MAX_WEIGHT_BYTES:
        rule = f"its weights must be at most {MAX_WEIGHT_BYTES / 1e6:.0f} MB for a page, got {size / 1e6:,.1f} MB"
        raise NoPageError(f"{folder}: {rule}; export a smaller model, {server}")
    if not isinstance(tokenizer, BytePairTokenizer):
        rule = "a page computes the tokenizer of a vocab.json and merges.txt, got a tokenizer.json"
        raise NoPageError(f"{folder}: {rule}; export a model that was pretrained here, {server}")


def no_page(reason: str) -> str:
    """Return a page that says why there is no model in it."""
    return f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>No page</title><p>{escape(reason)}</p>\n'


def page(name: str, source: str, model: LanguageModel, tokenizer: BytePairTokenizer) -> str:
    """Return the HTML of the page; `source` is the line at its foot."""
    style, script = (ASSETS / "style.css").read_text(encoding="utf-8"), bundled("one_file.js")
    count, config = parameter_counts(model)["parameters"], model.config
    sizes = f"{config.n_layer} layers of {config.n_head} heads, a vocabulary of {config.vocab_size:,} tokens"
    values = {
        "name": name,
        "source": source,
        "facts": f"{count:,} parameters, {sizes}, a context of {config.context_length:,} tokens",
        "policy": f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "data": _json_in_html(page_data(model, tokenizer)),
        "weights": weights_base64(model),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string((ASSETS / "one_file.html").read_text(encoding="utf-8")).render(values)


def page_data(model: LanguageModel, tokenizer: BytePairTokenizer) -> dict[str, Any]:
    """Return what the page knows of the model beside its weights: `shapes` name these in their order."""
    return {
        "config": architecture(model.config.model_type).config_to_json(model.config, tokenizer.end_of_text),
        "shapes": [[name, list(tensor.shape)] for name, tensor in _tensors(model).items()],
        "tokenizer": tokenizer_data(tokenizer),
    }


def weights_base64(model: LanguageModel) -> str:
    """Return all weights as fp32, little-endian."""
    arrays = [tensor.float().numpy().astype("<f4") for tensor in _tensors(model).values()]
    return base64.b64encode(b"".join(array.tobytes() for array in arrays)).decode("ascii")


def bundled(entry: str) -> str:
    """Return a module of `assets/` and those that it imports as one script; no name is declared by two of them."""
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        if name not in parts:
            text = (ASSETS / name).read_text(encoding="utf-8")
            for found in IMPORT.finditer(text):
                add(found[1])
            parts[name] = re.sub(r"^export ", "", IMPORT.sub("", text), flags=re.MULTILINE)

    add(entry)
    return "\n".join(parts.values())


def tokenizer_data(tokenizer: BytePairTokenizer) -> dict[str, Any]:
    """Return what tokenizer.js computes with: each token's bytes as the characters of the same numbers."""
    return {
        "tokens": [token.decode("latin-1") for token in tokenizer.ranks],
        "special_tokens": {END_OF_TEXT: tokenizer.end_of_text},
        "document_start": tokenizer.document_start,
        "stop_ids": sorted(tokenizer.stop_ids),
    }


def _tensors(model: LanguageModel) -> dict[str, Tensor]:
    """Return the weights, a shared one once."""
    state: dict[str, Tensor] = model.state_dict()
    return {name: tensor for name, tensor in state.items() if not (model.config.tied_head and name == "lm_head.weight")}


def _hash(text: str) -> str:
    """Return what the policy calls the one style or script that is allowed."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def _json_in_html(value: Any) -> str:
    """Return JSON that cannot end the element that it stands in."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).replace("<", "\\u003c")
