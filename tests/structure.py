"""The structure of the checkout as its own files tell it: stages, the params they read."""

import ast
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent


def params_read(script: str) -> set[str]:
    """Return the sections of `params` that a stage script reads, as attributes of a name `params`."""
    tree = ast.parse((ROOT / script).read_text(encoding="utf-8"))
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params"
    }
    return {name for name in read if not name.startswith("model_")} - {"runtime"}


def stages() -> dict[str, Any]:
    """Return the stages of dvc.yaml; a `foreach` stage is given by its `do`."""
    loaded = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: stage.get("do", stage) for name, stage in loaded.items()}
