"""Write the raw text folder of a mixture: the documents of one source after those of another."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmcore.base.errors import UserError
from llmcore.data.documents import DocumentRow
from llmcore.data.published import Fetch, Meta, write_meta
from llmcore.data.raw import TextInput, text_input, write_documents


def write_raw_mixture(
    folder: Path, path: Path, parts: Sequence[Mapping[str, Any]], fetch: Fetch, *, near_duplicates: str
) -> Meta:
    """Write documents.jsonl, in which each row names its source; `sources` of the meta describes each in this order.

    A part has a `name` and what `text_input` takes; the files of local ones lie in the folder `path`. Duplicates are
    found across all. -log p of the documents is kept if every part knows it: a floor of a part is none of the whole.
    """
    if any(part["kind"] == "local" for part in parts) and not path.is_dir():
        rule = "must be the folder in which the files of the local parts lie"
        raise UserError(f"sources.text.path: {rule}, got {str(path)!r}; correct it")
    arguments = {part["name"]: {key: part[key] for key in part if key != "name"} for part in parts}
    inputs = {
        name: text_input(folder, fetch, path=path, files_key=f"sources.text.parts.{number}.files", **given)
        for number, (name, given) in enumerate(arguments.items())
    }
    _check_apart({name: found for name, found in inputs.items() if arguments[name]["kind"] == "local"})
    keeps_nats = all(part["kind"] == "world" for part in parts)

    def rows() -> Iterator[DocumentRow]:
        for name, found in inputs.items():
            for row in found.rows():
                row["source"] = name
                if not keeps_nats:
                    row.pop("nats", None)
                yield row

    written = write_documents(folder, rows, near_duplicates)
    if emptied := [name for name in inputs if name not in written["sources"]]:
        rule = f"must leave a document of {emptied[0]!r}, and all of them repeat those of earlier parts"
        raise UserError(f"sources.text.near_duplicates: drop {rule}; take the part out, or count them instead")
    sources = [
        {
            "name": name,
            "kind": arguments[name]["kind"],
            "licence": found.licence,
            "files": found.files,
            **written["sources"][name],
        }
        for name, found in inputs.items()
    ]
    licence = " | ".join(dict.fromkeys(found.licence for found in inputs.values()))
    return write_meta(folder, "mixture", licence, **written | {"sources": sources})


def _check_apart(inputs: Mapping[str, TextInput]) -> None:
    """UserError if a file is in two parts: it would be read twice, and validate in one what trains in the other."""
    part_of: dict[str, str] = {}
    for name, found in inputs.items():
        for file in (entry["name"] for entry in found.files):
            if file in part_of:
                rule = f"must be files of no other part, and {file} is in {part_of[file]!r} too"
                raise UserError(f"sources.text.parts: files of {name!r} {rule}; correct either pattern")
            part_of[file] = name
