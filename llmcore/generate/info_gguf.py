"""Describe a GGUF file from its header."""

from collections import Counter
from math import prod
from pathlib import Path

from llmcore.model.gguf import places_of
from llmcore.model.gguf_family import config_of
from llmcore.model.gguf_file import read_header
from llmcore.model.gguf_path import source_of
from llmcore.model.registry import architecture
from llmcore.tokenizer.gguf import CHAT_TEMPLATE


def describe_gguf(path: Path) -> list[tuple[str, str]]:
    """Return (name, value) of what the file says; UserError if it is damaged or the model not computed here."""
    file = read_header(path)
    config = config_of(file)
    entry = architecture(config.model_type)
    parts: Counter[str] = Counter()
    for name, place in places_of(file, config).items():
        parts[entry.part(place.name)] += prod(file.tensors[name].shape)
    types = Counter(tensor.type.name for tensor in file.tensors.values())
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    heads, size = config.key_value_shape
    shape = f"{config.n_layer} layers, {config.n_head} heads, width {config.n_embd}, context {config.context_length}"
    return [
        ("file", str(path)),
        ("architecture", f"{config.model_type}, language model, in GGUF"),
        ("shape", f"{shape}, head {'tied' if config.tied_head else 'untied'}"),
        ("keys and values", f"{heads} heads of {size}"),
        ("parameters", f"{parts.total():,}"),
        *((f"  {part}", f"{count:,}") for part, count in parts.items()),
        ("dtype", ", ".join(f"{count} tensors {kind}" for kind, count in types.most_common())),
        (
            "tokenizer",
            f"{file.metadata.get('tokenizer.ggml.pre')}, {len(tokens) if isinstance(tokens, list) else 0:,} tokens",
        ),
        ("chat template", "yes" if CHAT_TEMPLATE in file.metadata else "none"),
        ("licence", source_of(path).licence),
    ]
