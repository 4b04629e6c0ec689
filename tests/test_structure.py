"""The structure holds: who imports whom, what dvc.yaml says of each stage, what dvc.lock says of the files."""

import hashlib
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from structure import ROOT, params_read, stages

from llmcore.dvc.deps import NO_OUTPUT, code_deps, imports, script_of, with_code_deps

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
    "serve": {"config", "generate", "tracking"},
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
    "cli": {"*"},
}
MAX_TOP_FILES = 8

SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "llmcore").rglob("*.py"))


def room(path: str) -> str:
    parts = Path(path).parts
    return parts[1] if len(parts) > 2 else Path(parts[1]).stem


@pytest.mark.parametrize("path", [path for path in SOURCES if not path.endswith("__init__.py")])
def test_a_room_imports_only_what_it_may(path: str) -> None:
    allowed = ALLOWED[room(path)] | {room(path), "base"}
    used = {room(file) for file in imports(ROOT, path) if file.startswith("llmcore/")}
    assert "*" in allowed or used <= allowed
    assert not any(file.startswith("stages/") for file in imports(ROOT, path))


def test_few_files_lie_at_the_top() -> None:
    assert len(list((ROOT / "llmcore").glob("*.py"))) <= MAX_TOP_FILES


@pytest.mark.parametrize("path", [path for path in SOURCES if path.endswith("__init__.py")])
def test_packages_load_nothing(path: str) -> None:
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


@pytest.mark.parametrize("name", sorted(set(stages()) - {"track"}))
def test_params_of_a_stage_are_what_it_reads(name: str) -> None:
    stage = stages()[name]
    listed = {param.split(".")[0] for param in stage.get("params", [])}
    assert listed == params_read(script_of(stage["cmd"]))


@pytest.mark.parametrize("name", stages())
def test_paths_of_a_stage_reach_its_script_as_arguments(name: str) -> None:
    """Paths are written once, in dvc.yaml; the inputs and outputs it declares are those it passes."""
    stage = stages()[name]
    words = shlex.split(stage["cmd"])
    metrics = [path for entry in stage.get("metrics", []) for path in entry]
    for path in [*stage.get("outs", []), *metrics]:
        assert path in words


def test_every_stage_says_what_it_does() -> None:
    assert [name for name, stage in stages().items() if not stage.get("desc")] == []


def locked() -> dict[str, Any]:
    return YAML(typ="safe").load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]


def test_lock_knows_every_stage() -> None:
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


def test_quickstart_is_what_is_committed() -> None:
    assert (ROOT / "presets/quickstart.yaml").read_text() == (ROOT / "params.yaml").read_text()
