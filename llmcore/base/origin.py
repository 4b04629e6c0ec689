"""Source and licence of a folder's content: model cards show them, derived folders inherit them."""

import re
from pathlib import Path
from typing import NamedTuple

from llmcore.base.files import read_bytes, read_json, write_json
from llmcore.base.text import normalise_input

SOURCE_FILE = "source.json"  # in a folder of prepared data
NOT_STATED = "not stated"


class Source(NamedTuple):
    """The kind of source, as in params.yaml ("world", "sms-spam", "gpt2"), and its licence."""

    kind: str
    licence: str


def write_source(folder: str | Path, source: Source) -> None:
    """Write a data folder's `source.json`."""
    write_json(Path(folder) / SOURCE_FILE, source._asdict())


def read_source(folder: str | Path) -> Source:
    """Return the source of a folder, or of that of a file; one that names none is `local`, with a licence NOT_STATED.

    Models made here have it in `origin.json`, prepared data in `source.json`, downloads in `meta.json`.
    Of other models the licence is read from the front matter of README.md.
    """
    folder = Path(folder)
    folder = folder.parent if folder.is_file() else folder
    for name in ("origin.json", SOURCE_FILE, "meta.json"):
        values = read_json(folder / name) if (folder / name).is_file() else None
        values = values.get("source", values) if isinstance(values, dict) else None
        if isinstance(values, dict) and isinstance(licence := values.get("licence"), str):
            return Source(str(values.get("kind", "local")), licence)
    readme = folder / "README.md"
    card = read_bytes(readme).decode("utf-8", errors="replace") if readme.is_file() else ""
    card = normalise_input(card)
    front_matter = re.match(r"---\n(.*?\n)---\n", card, re.DOTALL)
    stated = dict(
        re.findall(r"^(license(?:_name)?): *(\S.*?) *$", front_matter[1], re.MULTILINE) if front_matter else []
    )
    licence = stated.get("license", NOT_STATED).strip("\"'")
    named = stated.get("license_name") if licence == "other" else None  # the hub's word for one that it has no name for
    return Source("local", (named or licence).strip("\"'"))
