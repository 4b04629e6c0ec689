"""What a model folder holds, before anything of it is loaded."""

from pathlib import Path

from llmcore.model.folder import is_classifier, read_config
from llmcore.model.gguf_path import find_gguf


def opens_as_classifier(folder: str | Path) -> bool:
    """Return whether a model folder has a classifier, not a language model; UserError if it has no model."""
    if find_gguf(folder):
        return False
    entry, _, values = read_config(folder)
    return is_classifier(entry, values)
