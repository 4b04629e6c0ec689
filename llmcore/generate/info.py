"""Describe a model folder: what it is, how large, where it comes from, what opens it."""

import importlib.util
from collections import Counter
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, sha256_files
from llmcore.base.origin import read_source
from llmcore.generate.open import open_classifier, open_language_model
from llmcore.model.architecture import Architecture
from llmcore.model.folder import class_names, is_classifier, load_classifier, load_language_model, read_config
from llmcore.model.gguf_path import find_gguf
from llmcore.model.weights import TensorHeader, check_sizes, read_headers, weight_files
from llmcore.tokenizer.fast import FAST_FILE
from llmcore.tokenizer.load import has_tokenizer, load_tokenizer

PROBE = "One  sunny morning, 12 balls: \n\tshe's off! \u00e9\u4e16"


def describe(folder: Path) -> str:
    """Return a page of `name  value` lines; UserError if this is no model folder or GGUF file."""
    if file := find_gguf(folder):
        from llmcore.generate.info_gguf import describe_gguf

        return _page([*describe_gguf(file), ("loads here", _attempt(lambda: open_language_model(file)))])
    entry, config, values = read_config(folder)
    headers = read_headers(folder)
    classifies = is_classifier(entry, values)
    shape = f"{config.n_layer} layers, {config.n_head} heads, width {config.n_embd}, context {config.context_length}"
    # transformers leaves the names out where there are none
    head = f"classifier of {', '.join(class_names(values) or ['unnamed classes'])}" if classifies else "language model"
    lines = [
        ("folder", str(folder)),
        ("architecture", f"{config.model_type}, {head}"),
        ("shape", f"{shape}, head {'tied' if config.tied_head else 'untied'}"),
        *_parameters(entry, headers),
        ("dtype", ", ".join(sorted({stored.dtype for stored in headers}))),
        ("tokenizer", _tokenizer(folder, config.vocab_size)),
        ("origin", _origin(folder)),
        ("licence", read_source(folder).licence),
        ("adapter", "adapter/ (LoRA, PEFT layout)" if (folder / "adapter").is_dir() else "none"),
        ("loads here", _loads_here(folder, classifies)),
        ("opens in transformers", _attempt(lambda: check_sizes(folder, headers, entry, config))),
    ]
    if lines[-1][1] == "yes":  # transformers would build whatever config.json asks for
        lines[-1] = (lines[-1][0], _opens_in_transformers(folder, classifies))
    return _page(lines)


def _page(lines: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {' '.join(value.split())}" for name, value in lines)


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of a model folder's weights, by which the run that made them is found.

    UserError for a GGUF file: no run here made one.
    """
    if find_gguf(folder):
        rule = "must be a model folder, and is a GGUF file"
        raise UserError(f"{folder}: {rule}; make it the base (weights.path, dvc repro load_gpt2) and give models/base")
    return sha256_files(weight_files(folder))


def _parameters(entry: Architecture, headers: Sequence[TensorHeader]) -> list[tuple[str, str]]:
    """Count parameters by part, from the shapes in the files' headers."""
    parts: Counter[str] = Counter()
    for stored in headers:
        if name := entry.our_name(stored.key):
            parts[entry.part(name)] += prod(stored.shape)
    return [("parameters", f"{parts.total():,}"), *((f"  {part}", f"{count:,}") for part, count in parts.items())]


def _tokenizer(folder: Path, vocab_size: int) -> str:
    if not has_tokenizer(folder):
        return "none that fits (no tokenizer.json, no vocab.json and merges.txt)"
    try:
        tokenizer = load_tokenizer(folder)
    except UserError as error:
        return f"none that fits ({error})"
    what = f"{tokenizer.vocab_size:,} tokens"
    if (folder / FAST_FILE).is_file():
        return f"{FAST_FILE}, {what} of the model's {vocab_size:,}"
    fits = "" if tokenizer.vocab_size == vocab_size else f", but the model has {vocab_size:,}"
    return f"byte-level BPE, {what}{fits}"


def _origin(folder: Path) -> str:
    if not (folder / "origin.json").is_file():
        return "not from this pipeline (no origin.json)"
    origin = read_json(folder / "origin.json")
    inputs = origin.get("inputs", {}) if isinstance(origin, dict) else None
    if not isinstance(inputs, dict) or not all(isinstance(digest, str) for digest in inputs.values()):
        return "origin.json does not name the inputs by their hashes"
    return f"inputs by hash: {', '.join(f'{name} {digest[:12]}' for name, digest in sorted(inputs.items()))}"


def _loads_here(folder: Path, classifies: bool) -> str:
    """Return whether the commands open the folder: the model, and the tokenizer if there is one."""
    if has_tokenizer(folder):
        return _attempt(lambda: open_classifier(folder) if classifies else open_language_model(folder))
    found = _attempt(lambda: load_classifier(folder) if classifies else load_language_model(folder))
    return "the model does; there is no tokenizer" if found == "yes" else found


def _attempt(load: Callable[[], object]) -> str:
    try:
        load()
    except UserError as error:
        return f"no: {error}"
    return "yes"


def _opens_in_transformers(folder: Path, classifies: bool) -> str:
    """Try it where transformers is installed; it is no dependency of the pipeline."""
    if importlib.util.find_spec("transformers") is None:
        return "not tried: transformers is not installed here (`make test` installs it)"
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    opened_by = transformers.AutoModelForSequenceClassification if classifies else transformers.AutoModelForCausalLM
    try:
        _, found = opened_by.from_pretrained(folder, local_files_only=True, output_loading_info=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever stops a foreign library is the answer here
        return f"no: {str(error).partition(chr(10))[0] or type(error).__name__}"
    if absent := sorted(found["missing_keys"]):
        return f"no: {absent[0]} is missing, and would be random"
    if not has_tokenizer(folder):
        return f"the model does, tried with {transformers.__version__}; there is no tokenizer"
    if tokenizer.encode(PROBE, add_special_tokens=False) != load_tokenizer(folder).encode(PROBE):
        return "no: its tokenizer gives other ids"
    return f"yes, tried with {transformers.__version__}"
