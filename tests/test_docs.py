"""The documents name only what exists: functions, files, pages."""

import ast
import re
from pathlib import Path

import pytest
from structure import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data/README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAX_README_LINES = 220
MAX_STEPS = {"A token": 10, "`pretrain.lr`": 10, "A row": 10, "A metric": 6}  # of the ways through the code


def ways() -> dict[str, list[str]]:
    """Return the steps of each way in docs/structure.md as `file:function`."""
    section = (ROOT / "docs/structure.md").read_text(encoding="utf-8").split("## Four ways through the code")[1]
    section = section.split("\n## ")[0]
    found = {}
    for part in re.split(r"\n(?=\S[^\n]*:\n\n1\. )", section)[1:]:
        found[part.partition(",")[0]] = re.findall(r"^\d+\. `([^`]+)`", part, re.MULTILINE)
    return found


def test_each_way_through_the_code_is_short() -> None:
    assert {name: len(steps) <= MAX_STEPS[name] for name, steps in ways().items()} == dict.fromkeys(MAX_STEPS, True)


@pytest.mark.parametrize("step", [step for steps in ways().values() for step in steps])
def test_each_step_of_a_way_is_a_function_that_exists(step: str) -> None:
    file, _, name = step.partition(":")
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part]
        assert found, step
        body = found[0].body


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_file_that_a_page_links_or_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = re.findall(r"`((?:llmcore|stages|tests|docs|presets|benchmarks)/[\w./-]*)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_fits_its_length() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES
