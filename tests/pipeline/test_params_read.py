"""The sections of params.yaml that dvc.yaml names for a stage are those that its code reads."""

import json
import sys

import pytest
from structure import stages
from workspace import Workspace

pytestmark = pytest.mark.slow

RUN = """
import contextlib, json, os, sys
from llmcore.base.numerics import settle_numerics
settle_numerics("portable", "fp32", "cpu")
import importlib, shlex
from llmcore.config.params import Params

read = set()
find = Params.__getattribute__

def recorded(self, name):
    if name in Params.model_fields:
        read.add(name)
    return find(self, name)

validate = Params.model_validate

def validated(values):
    params = validate(values)
    read.clear()  # a check of params.yaml reads every section
    return params

Params.__getattribute__ = recorded
Params.model_validate = validated
found = {}
for stage, command in json.load(sys.stdin).items():
    read.clear()
    _, _, _, name, *paths = shlex.split(command)
    with contextlib.redirect_stdout(sys.stderr):
        importlib.import_module(f"stages.{name}").main(paths)
    found[stage] = sorted(read - {"runtime"})  # changes no result
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def read(built: Workspace) -> dict[str, set[str]]:
    """Run every stage in one process, and record the sections that it takes from `params`."""
    from ruamel.yaml import YAML

    locked = YAML(typ="safe").load((built.folder / "dvc.lock").read_text())["stages"]
    commands = {stage: entry["cmd"] for stage, entry in locked.items()}
    (built.folder / "record.py").write_text(RUN)
    printed = built.run(f"{sys.executable} record.py", input=json.dumps(commands), PYTHONPATH=str(built.folder))
    return {stage: set(sections) for stage, sections in json.loads(printed.splitlines()[-1]).items()}


def test_params_of_each_stage_are_what_it_reads(read: dict[str, set[str]]) -> None:
    listed = {
        stage: {param.split(".")[0] for param in stages()[stage.split("@")[0]].get("params", [])} for stage in read
    }
    assert read == listed


def test_stages_run_again_in_one_process_make_the_same_bytes(built: Workspace, read: dict[str, set[str]]) -> None:
    (built.folder / "record.py").unlink()
    assert built.changed_stages() == []
