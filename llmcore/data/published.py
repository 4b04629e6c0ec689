"""Write a raw folder of GPT-2's published weights, and describe downloads in `meta.json`.

Separate from `raw`, because an edit of the built-in world must not download gigabytes again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmcore.base.files import write_json
from llmcore.data.download import Fetched, RemoteFile
from llmcore.data.meta import META_FILE
from llmcore.data.sources import GPT2_REVISIONS, gpt2_files

Meta = dict[str, Any]
Fetch = Callable[[RemoteFile, Path], Fetched]  # `download.fetch` with its scratch folder bound


def write_raw_weights(folder: Path, name: str, fetch: Fetch) -> Meta:
    """Write GPT-2's published weights `name`: config.json, merges.txt, model.safetensors, vocab.json."""
    remote = gpt2_files(name)
    files = [remote_entry(file, fetch(file, folder / file.name)) for file in remote]
    size_bytes = sum(entry["bytes"] for entry in files)
    revision = GPT2_REVISIONS[name]
    return write_meta(folder, name, remote[0].licence, files=files, bytes=size_bytes, revision=revision)


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
