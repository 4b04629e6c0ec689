"""The structure of the checkout as its own files describe it."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent


def all_stages() -> dict[str, Any]:
    """Return the stages of dvc.yaml as they are written there."""
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def stages() -> dict[str, Any]:
    """Return the stages of dvc.yaml; a `foreach` stage is given by its `do`."""
    return {name: stage.get("do", stage) for name, stage in all_stages().items()}
