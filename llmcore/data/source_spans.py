"""Where each source of a mixture lies in the token file: `sources.json`, beside the ids."""

from collections.abc import Mapping
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llmcore.base.files import read_json, write_json

SOURCES_FILE = "sources.json"


class SourceSpan(NamedTuple):
    """The ids of a source are those in `[begin, end)`, with the end-of-text that closes its last document."""

    name: str  # "" where the text is of one source
    begin: int
    end: int


def write_spans(folder: Path, documents: Mapping[str, int], starts: np.ndarray, total: int) -> dict[str, int]:
    """Write `sources.json` and return the number of ids of each source.

    `documents` has the number of documents of each source, in their order; `starts` and `total` are those of `Tokens`.
    """
    first_documents = list(accumulate(documents.values(), initial=0))
    edges = np.append(starts, total)[first_documents].tolist()
    tokens = {name: end - begin for name, (begin, end) in zip(documents, pairwise(edges), strict=True)}
    rows = [{"name": name, "documents": documents[name], "tokens": tokens[name]} for name in documents]
    write_json(folder / SOURCES_FILE, rows)
    return tokens


def read_spans(folder: Path) -> tuple[SourceSpan, ...]:
    """Return the spans of the sources of a mixture, none of another token folder."""
    path = folder / SOURCES_FILE
    rows = read_json(path) if path.is_file() else []
    edges = accumulate((row["tokens"] for row in rows), initial=0)
    return tuple(SourceSpan(row["name"], *span) for row, span in zip(rows, pairwise(edges), strict=True))
