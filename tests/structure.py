"""The structure of the checkout as its own files tell it: imports, stages, params read."""

import ast
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent

# Files that change no byte of an out: they check, track, show. An edit there must not retrain anything.
EXEMPT = {
    "llmcore/credentials.py": "hides passwords in what is shown",
    "llmcore/errors.py": "words of messages",
    "llmcore/mlflow_store.py": "tracking",
    "llmcore/parent.py": "ends a stage whose DVC is gone",
    "llmcore/params.py": "checks numbers, holds none",
    "llmcore/process.py": "thread waiting policy and telemetry switches",
    "llmcore/progress.py": "progress bars",
    "llmcore/project.py": "where scratch and runs are kept",
    "llmcore/run_name.py": "names of runs",
    "llmcore/sentences.py": "words of descriptions",
    "llmcore/tracking.py": "tracking",
    "stages/common.py": "error lines, progress, tracking",
}


@cache
def imports(path: str) -> frozenset[str]:
    """Return the project's files that `path` imports, anywhere in it but under TYPE_CHECKING."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            found |= {file for alias in node.names if (file := _file(alias.name))}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {file for alias in node.names if (file := _file(f"{node.module}.{alias.name}"))}
            found |= inner or {file for file in [_file(node.module)] if file}
    return frozenset(found)


def code_deps(script: str) -> set[str]:
    """Return the code files of which a stage's outs are made: it and what it loads, directly or through others."""
    seen: set[str] = set()
    waiting = [script]
    while waiting:
        current = waiting.pop()
        if current not in seen and current not in EXEMPT:
            seen.add(current)
            waiting.extend(imports(current))
    return seen


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


def script_of(stage: dict[str, Any]) -> str:
    """Return the script that a stage's command runs."""
    words = stage["cmd"].split()
    return words[words.index("-m") + 1].replace(".", "/") + ".py"


def _nodes(tree: ast.AST) -> list[ast.AST]:
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in node.body
        for inner in ast.walk(child)
    }
    return [node for node in ast.walk(tree) if id(node) not in skipped]


def _file(module: str) -> str | None:
    path = module.replace(".", "/") + ".py"
    return path if module.split(".")[0] in ("llmcore", "stages") and (ROOT / path).is_file() else None
