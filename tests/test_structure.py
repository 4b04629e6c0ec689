"""The structure: imports between rooms, sizes, the tables of stages and models, dvc.yaml and dvc.lock."""

import ast
import hashlib
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from structure import ROOT, all_stages, stages

from llmcore.config.kinds import MODEL_KINDS
from llmcore.config.stages import STAGES
from llmcore.dvc.deps import NO_OUTPUT, code_deps, imports, with_code_deps

# room -> the rooms that it may import, besides itself and base/
ALLOWED: dict[str, set[str]] = {
    "base": set(),
    "config": set(),
    "tokenizer": set(),
    "data": set(),
    "model": set(),
    "train": set(),
    "tasks": {"data", "model", "tokenizer"},
    "generate": {"config", "model", "tokenizer"},
    "evaluate": set(),
    "report": {"config", "evaluate"},
    "dvc": set(),
    "tracking": {"config", "dvc"},
    "lineage": {"dvc", "tracking"},
    "serve": {"config", "generate", "model", "page", "tokenizer", "tracking"},
    "run": {
        "config",
        "data",
        "dvc",
        "evaluate",
        "generate",
        "model",
        "report",
        "tasks",
        "tokenizer",
        "tracking",
        "train",
    },
    "commands": {"*"},
    "cli": {"*"},
}
MAX_TOP_FILES = 8
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 50

SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "llmcore").rglob("*.py"))
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "stages").glob("*.py"))


def room(path: str) -> str:
    parts = Path(path).parts
    return parts[1] if len(parts) > 2 else Path(parts[1]).stem


@pytest.mark.parametrize("path", [path for path in SOURCES if not path.endswith("__init__.py")])
def test_room_imports_only_what_it_may(path: str) -> None:
    allowed = ALLOWED[room(path)] | {room(path), "base"}
    used = {room(file) for file in imports(ROOT, path) if file.startswith("llmcore/")}
    assert "*" in allowed or used <= allowed
    assert not any(file.startswith("stages/") for file in imports(ROOT, path))


def test_few_files_lie_at_the_top() -> None:
    assert len(list((ROOT / "llmcore").glob("*.py"))) <= MAX_TOP_FILES


@pytest.mark.parametrize("path", [path for path in SOURCES if path.endswith("__init__.py")])
def test_packages_are_empty(path: str) -> None:
    """A package that re-exports makes every stage depend on all of it."""
    assert (ROOT / path).read_text() == ""


def test_files_without_output_exist() -> None:
    assert [path for path in NO_OUTPUT if not (ROOT / path).exists()] == []


def test_code_deps_of_dvc_yaml_are_what_the_stages_import() -> None:
    """DVC does not follow imports: a missing dependency is a model that goes stale unnoticed."""
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert text == with_code_deps(text, ROOT), "run `make deps`"


def test_code_deps_follow_imports_through_other_files() -> None:
    assert {"stages/sample.py", "llmcore/data/samples.py", "llmcore/data/windows.py"} <= code_deps(
        "stages/sample.py", ROOT
    )


# ---- the tables of stages and models


def expanded() -> dict[str, dict[str, Any]]:
    """Return the stages of dvc.yaml but `report`; one of a `foreach` over sections of params.yaml is `name@section`."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = {}
    for name, stage in all_stages().items():
        each = stage.get("foreach", "")
        if name == "report":
            continue
        if each == "${sources}":
            found |= {f"{name}@{key}": stage["do"] for key in params["sources"]}
        else:
            found[name] = stage.get("do", stage)
    return found


def test_every_stage_of_dvc_yaml_has_a_row_and_every_row_a_stage() -> None:
    assert set(STAGES) == set(expanded())


@pytest.mark.parametrize("name", STAGES)
def test_params_of_a_row_are_the_sections_of_dvc_yaml(name: str) -> None:
    """What a stage really reads is recorded in tests/pipeline/test_params_read.py."""
    listed = {param.split(".")[0] for param in expanded()[name].get("params", [])}
    assert {section.split(".")[0] for section in STAGES[name].params} == listed


def test_report_draws_every_stage_that_writes_tables_with_pictures() -> None:
    """`evaluate_instruct` writes a table for people and for `llmcore compare`, and no picture is made of it."""
    tables = {name for name in expanded() if f"reports/{name}/tables" in expanded()[name].get("outs", [])}
    assert set(all_stages()["report"]["foreach"]) == tables - {"evaluate_instruct"}


def test_every_model_kind_is_made_by_a_stage_that_writes_its_folder() -> None:
    assert [kind for kind in MODEL_KINDS.values() if kind.folder not in expanded()[kind.stage]["outs"]] == []


# ---- sizes


def functions(path: str) -> dict[str, int]:
    """Return the number of lines of each function of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in found}


@pytest.mark.parametrize("path", [*SOURCES, *SCRIPTS])
def test_files_and_functions_are_short(path: str) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    assert {name: lines for name, lines in functions(path).items() if lines > MAX_FUNCTION_LINES} == {}


# ---- dvc.yaml and dvc.lock


@pytest.mark.parametrize("name", stages())
def test_paths_of_a_stage_reach_its_script_as_arguments(name: str) -> None:
    """Paths are written once, in dvc.yaml; the inputs and outputs it declares are those it passes."""
    stage = stages()[name]
    words = shlex.split(stage["cmd"])
    metrics = [path for entry in stage.get("metrics", []) for path in entry]
    for path in [*stage.get("outs", []), *metrics]:
        assert path in words


def test_every_stage_has_a_description() -> None:
    assert [name for name, stage in stages().items() if not stage.get("desc")] == []


def locked() -> dict[str, Any]:
    return YAML(typ="safe").load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]


def test_lock_has_every_stage() -> None:
    assert {name.split("@")[0] for name in locked()} == set(stages()) - {"download_weights"}


@pytest.mark.parametrize("name", locked() if (ROOT / "dvc.lock").exists() else [])
def test_lock_was_made_from_these_files_and_numbers(name: str) -> None:
    """Data hashes differ between CPU types and are not compared; code and params must be those of this commit."""
    stage = locked()[name]
    code = {dep["path"]: dep["md5"] for dep in stage["deps"] if dep["path"].endswith(".py")}
    assert code == {path: hashlib.md5((ROOT / path).read_bytes()).hexdigest() for path in code}
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key, value in stage.get("params", {}).get("params.yaml", {}).items():
        found = params
        for part in key.split("."):
            found = found[part]
        assert value == found


def test_quickstart_preset_is_the_committed_params() -> None:
    assert (ROOT / "presets/quickstart.yaml").read_text() == (ROOT / "params.yaml").read_text()
