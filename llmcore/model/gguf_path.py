"""Whether a path means a GGUF file, and where a model comes from.

What reads such a file is imported only then: the library takes its time.
"""

from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.origin import NOT_STATED, Source, read_source

SUFFIX = ".gguf"


def find_gguf(path: str | Path) -> Path | None:
    """Return the GGUF file that a path names: itself, or the one of a folder that has no config.json; None if none.

    UserError for a folder with several.
    """
    path = Path(path)
    if path.suffix == SUFFIX and not path.is_dir():
        return path
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    files = sorted(path.glob(f"*{SUFFIX}"))
    if len(files) > 1:
        raise UserError(f"{path}: has {len(files)} GGUF files; name one of them, such as {files[0]}")
    return files[0] if files else None


def source_of(path: str | Path) -> Source:
    """Return the source of a model folder or GGUF file; a file may state its licence itself."""
    source = read_source(path)
    if source.licence != NOT_STATED or (file := find_gguf(path)) is None:
        return source
    from llmcore.model.gguf import read_metadata

    stated = read_metadata(file).get("general.license")
    return source._replace(licence=stated) if isinstance(stated, str) else source
