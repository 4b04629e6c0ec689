"""Read the tokenizer of a folder, whichever of the two forms it has."""

from pathlib import Path

from llmcore.tokenizer.bpe import load_byte_pair_tokenizer
from llmcore.tokenizer.fast import FAST_FILE, load_fast_tokenizer
from llmcore.tokenizer.tokenizer import Tokenizer


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Read `tokenizer.json` where there is one, else `vocab.json` and `merges.txt` in GPT-2's form."""
    if (Path(folder) / FAST_FILE).is_file():
        return load_fast_tokenizer(folder)
    return load_byte_pair_tokenizer(folder)


def has_tokenizer(folder: str | Path) -> bool:
    """Return whether a folder has a file of a tokenizer."""
    return any((Path(folder) / name).is_file() for name in (FAST_FILE, "vocab.json", "merges.txt"))
