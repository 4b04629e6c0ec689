"""The meta.json of a raw folder: what it promises is checked against what is made and what is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmcore.base.errors import UserError

META_FILE = "meta.json"


def check_counts(where: str | Path, promised: Mapping[str, Any], **found: int) -> None:
    """UserError unless `promised`, the content of `where`, has the counts that were found.

    A cache or a copy can put one state's files beside another's numbers, without a word.
    """
    for key, count in found.items():
        if promised.get(key) != count:
            rule = f"promises {key} {promised.get(key)!r}, found {count}"
            raise UserError(f"{where}: {rule}; run `dvc repro --force` to make it again")
