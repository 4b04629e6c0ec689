"""What stages on models say of their inputs: hashes, sources, licences."""

from collections.abc import Mapping
from pathlib import Path

from llmcore.base.files import sha256_folder
from llmcore.base.origin import Source
from llmcore.model.folder import fingerprint
from llmcore.tracking.tracker import Tracker


def inputs_of(tracker: Tracker, **folders: Path) -> dict[str, str]:
    """Return the hash of each input folder, and tell the tracker."""
    hashes = hashes_of(**folders)
    tell_inputs(tracker, hashes, **folders)
    return hashes


def hashes_of(**folders: Path) -> dict[str, str]:
    """Return the hash of each input folder; a model is known by what it computes."""
    is_model = {name: (folder / "config.json").is_file() for name, folder in folders.items()}
    return {name: fingerprint(f) if is_model[name] else sha256_folder(f) for name, f in folders.items()}


def tell_inputs(tracker: Tracker, hashes: dict[str, str], **folders: Path) -> None:
    """Tell the tracker where each input lies and by which hash it is known."""
    for name, folder in folders.items():
        tracker.log_dataset(name, folder.as_posix(), hashes[name])


def card_lines(inputs: dict[str, str], sources: Mapping[str, Source]) -> list[str]:
    """Say for a model card what each input with a source is, on what terms, and by which hash it is known."""
    return [f"{name}: {source.kind}, {source.licence}; sha256 `{inputs[name]}`" for name, source in sources.items()]
