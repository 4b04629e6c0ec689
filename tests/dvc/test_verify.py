"""`llmcore verify`, on a pipeline of two small stages."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.cli import main
from llmcore.dvc.verify import clone_head, other_versions, probable_cause, report

PIPELINE = """
stages:
  number:
    cmd: python -c "import json, os; json.dump(dict(a=float(os.environ.get('NUMBER', 1))), open('number.json', 'w'))"
    outs:
      - number.json
  text:
    cmd: python -c "open('text.txt', 'w').write('same')"
    outs:
      - text.txt
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that is built and committed."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "requirements.lock").write_text(f"torch=={version('torch')}\nnot-installed-anywhere==1.0\n")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "test")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "test@example.org")
    for command in ("git init -q", "dvc init -q", "dvc repro -q", "git add -A", "git commit -qm built"):
        subprocess.run(command.split(), check=True, capture_output=True)
    return folder


def test_equal_outputs_are_reported_stage_by_stage(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = sorted(project.iterdir())
    assert main(["verify"]) == 0
    assert capfd.readouterr().out.splitlines()[-3:] == [
        "number: identical",
        "text: identical",
        "All outputs are identical.",
    ]
    assert sorted(project.iterdir()) == before


def test_differing_outputs_are_reported_with_the_amount_and_the_probable_cause(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NUMBER", "1.5")
    assert main(["verify"]) == 1
    *_, number, path, amount, text, cause = capfd.readouterr().out.splitlines()
    assert (number, path, text) == ("number: differs", "  number.json", "text: identical")
    assert amount == "    number.json: a 1.0 -> 1.5 (+0.5)"
    assert cause.startswith("Probable cause: dvc.lock was made on another type of processor; here: ")


def test_missing_and_edited_files_are_reported(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "x.json").write_text(json.dumps({"a": 1}))
    locks = {"stage": {"x.json": "1" * 32}}, {"stage": {"x.json": "2" * 32}}
    lines = list(report(*locks, tmp_path, clone))
    assert lines[2] == "    cannot be compared, because it is missing here; run `dvc checkout` or `dvc repro`"
    (tmp_path / "x.json").write_text(json.dumps({"a": 2}))
    assert list(report(*locks, tmp_path, clone))[2:] == [
        "    compared with the file here, which differs from the one of the commit",
        "    x.json: a 2 -> 1 (-1)",
    ]


def test_a_stage_on_one_side_only_differs(tmp_path: Path) -> None:
    assert next(iter(report({}, {"new": {"x": "1"}}, tmp_path, tmp_path))) == "new: differs"


def test_other_versions_are_the_first_probable_cause(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("torch==1.0.0\nnumpy==0.1\n")
    cause = probable_cause(tmp_path)
    assert cause.startswith("Probable cause: versions that differ from requirements.lock: torch ")
    assert "numpy" in cause


def test_this_environment_has_the_versions_of_the_lock_file() -> None:
    assert list(other_versions((ROOT / "requirements.lock").read_text())) == []


def test_without_a_commit_the_error_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}: must be a git repository with a commit (")):
        clone_head(tmp_path, tmp_path / "clone")
