"""The code dependencies of the stages, found by following imports, and written into dvc.yaml.

    python -m llmcore.dvc.deps

DVC does not follow imports: if a file is missing from `deps`, an edit of it leaves stale results. Files that
change no byte of an output are left out, so that an edit of a message or of the tracker retrains nothing.
"""

import ast
import re
from functools import cache
from pathlib import Path

from llmcore.base.files import write_text

PIPELINE = Path("dvc.yaml")
PACKAGES = ("llmcore", "stages")
NO_OUTPUT = {  # files and folders that change no byte of an output, with the reason
    "llmcore/base/credentials.py": "hides passwords",
    "llmcore/base/errors.py": "words of messages",
    "llmcore/base/git.py": "runs git",
    "llmcore/base/process.py": "spinning of idle threads, telemetry",
    "llmcore/base/progress.py": "progress bars",
    "llmcore/base/project.py": "where scratch and runs are kept",
    "llmcore/config/evaluation.py": "checks params, holds none",
    "llmcore/config/fields.py": "types of params, checks them, holds none",
    "llmcore/config/generation.py": "checks settings, holds none that a stage uses",
    "llmcore/config/params.py": "checks params, holds none",
    "llmcore/config/presets.py": "copies params.yaml",
    "llmcore/config/read.py": "reads and checks params",
    "llmcore/config/sources.py": "checks params, holds none",
    "llmcore/config/stages.py": "names of stages; a test compares their params with dvc.yaml",
    "llmcore/dvc/": "DVC's files and processes",
    "llmcore/run/live_tables.py": "curves while a training runs, which its stage writes anew",
    "llmcore/run/progress.py": "progress bars, rates",
    "llmcore/run/stage.py": "how a stage begins and ends",
    "llmcore/tracking/": "runs in MLflow",
}


def code_deps(script: str, root: Path) -> set[str]:
    """Return a stage's code dependencies: its script and what that imports, directly or indirectly."""
    seen: set[str] = set()
    waiting = [script]
    while waiting:
        current = waiting.pop()
        if current not in seen and not current.startswith(tuple(NO_OUTPUT)):
            seen.add(current)
            waiting.extend(imports(root, current))
    return seen


@cache
def imports(root: Path, path: str) -> frozenset[str]:
    """Return the project's files that `path` imports, in functions too, but not under TYPE_CHECKING."""
    found: set[str] = set()
    for node in _runtime_nodes(ast.parse((root / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {file for alias in node.names if (file := _file(root, alias.name))}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {file for alias in node.names if (file := _file(root, f"{node.module}.{alias.name}"))}
            found |= inner or {file for file in [_file(root, node.module)] if file}
    return frozenset(found)


def script_of(command: str) -> str:
    """Return the script that a stage's command runs: `python -m stages pretrain ...` -> `stages/pretrain.py`."""
    words = command.split()
    return f"stages/{words[words.index('stages') + 1]}.py"


def with_code_deps(pipeline: str, root: Path) -> str:
    """Return the text of dvc.yaml with the code deps of each stage replaced; everything else is unchanged."""
    lines: list[str] = []
    script = indent = ""
    in_deps = False
    for line in pipeline.splitlines():
        if (found := re.match(r"\s+python -m stages \w+", line)) is not None:
            script = script_of(found[0])
        if in_deps and not line.lstrip().startswith("- "):
            lines += [f"{indent}- {path}" for path in sorted(code_deps(script, root))]
            in_deps = False
        if in_deps and line.endswith(".py"):
            continue
        if line.strip() == "deps:":
            in_deps = True
            indent = " " * (line.index("deps") + 2)
        lines.append(line)
    return "\n".join(lines) + "\n"


def _runtime_nodes(tree: ast.AST) -> list[ast.AST]:
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in node.body
        for inner in ast.walk(child)
    }
    return [node for node in ast.walk(tree) if id(node) not in skipped]


def _file(root: Path, module: str) -> str | None:
    path = module.replace(".", "/") + ".py"
    return path if module.split(".")[0] in PACKAGES and (root / path).is_file() else None


if __name__ == "__main__":
    write_text(PIPELINE, with_code_deps(PIPELINE.read_text(encoding="utf-8"), Path()))
