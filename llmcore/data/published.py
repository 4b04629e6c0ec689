"""Describe a download in the `meta.json` of its raw folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmcore.base.files import write_json
from llmcore.data.download import Fetched, RemoteFile
from llmcore.data.meta import META_FILE

Meta = dict[str, Any]
Fetch = Callable[[RemoteFile, Path], Fetched]  # `download.fetch` with its scratch folder bound


def remote_entry(file: RemoteFile, fetched: Fetched) -> Meta:
    """Describe a download; `published` is whether its hash was known before the download."""
    return {
        "name": file.name,
        "bytes": fetched.size_bytes,
        "sha256": fetched.sha256,
        "url": file.url,
        "published": file.sha256 is not None,
    }


def write_meta(folder: Path, kind: str, licence: str, **rest: Any) -> Meta:
    """Write the `meta.json` of a raw folder and return its content."""
    meta = {"kind": kind, "licence": licence, **rest}
    write_json(folder / META_FILE, meta)
    return meta
