"""The inputs of a stage: their hashes, and what a model card says about them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmcore.base.files import sha256_folder
from llmcore.model.folder import fingerprint
from llmcore.model.gguf_path import find_gguf, source_of
from llmcore.tracking.tracker import Tracker


def hashes_of(**folders: Path) -> dict[str, str]:
    """Return the hash of each input folder; that of a model covers what it computes."""
    is_model = {name: (f / "config.json").is_file() or find_gguf(f) is not None for name, f in folders.items()}
    return {name: fingerprint(f) if is_model[name] else sha256_folder(f) for name, f in folders.items()}


def log_inputs(tracker: Tracker, hashes: Mapping[str, str], **folders: Path) -> None:
    """Tell the tracker where each input lies, with its hash."""
    for name, folder in folders.items():
        tracker.log_input(name, folder.as_posix(), hashes[name])


def card_facts(hashes: Mapping[str, str], params: Mapping[str, Any], **folders: Path) -> dict[str, Any]:
    """Return the facts of a model card: kind, licence and hash of each named input, and the params.

    The licence is that of the first input.
    """
    sources = {name: source_of(folder) for name, folder in folders.items()}
    first = next(iter(sources.values()))
    return {
        "params": dict(params),
        "licence": first.licence,
        "inputs": {name: source._asdict() | {"sha256": hashes[name]} for name, source in sources.items()},
    }
