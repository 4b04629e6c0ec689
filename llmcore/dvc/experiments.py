"""What DVC's experiments made; each is a commit that no branch has."""

from pathlib import Path
from typing import Any

from llmcore.base.files import parse_json
from llmcore.base.git import git


def committed_metrics(root: Path, commit: str, stage: str) -> dict[str, Any]:
    """Return the metrics that a commit, an experiment's or another, has of a stage."""
    found: dict[str, Any] = parse_json(git(root, "show", f"{commit}:reports/{stage}/metrics.json"))
    return found
