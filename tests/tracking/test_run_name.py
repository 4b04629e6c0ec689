"""Names of runs say what was changed."""

from pathlib import Path

import pytest

from llmcore.base.git import git
from llmcore.tracking.run_name import MAX_NAME_CHARACTERS, changed_params, run_name

PARAMS = """
seed: 123
pretrain:
  lr: 4.0e-3  # a comment
  lr_targets: [a, b]
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, git_identity: None) -> Path:
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def test_name_is_the_changed_numbers_the_stage_and_a_hash() -> None:
    assert run_name("pretrain", {"a": "1"}, {}) == "pretrain-452647e0"
    assert run_name("pretrain", {"a": "1"}, {"pretrain.lr": 0.001}) == "lr=0.001 pretrain-452647e0"
    assert run_name("pretrain", {"a": "2"}, {}) != run_name("pretrain", {"a": "1"}, {})


def test_many_changes_are_counted_and_a_long_value_is_cut() -> None:
    assert run_name("x", {}, dict.fromkeys("abcde", 1)).startswith("a=1 b=1 c=1 and 2 more x-")
    name = run_name("x", {}, {"prompt": "y" * 500})
    assert len(name) == MAX_NAME_CHARACTERS
    assert name.endswith(f"y... {run_name('x', {}, {})}")


def test_dvcs_experiment_has_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "tubby-lamb")
    assert run_name("pretrain", {}, {"pretrain.lr": 1}) == "tubby-lamb"


def test_changes_are_what_differs_from_the_last_commit(project: Path) -> None:
    (project / "params.yaml").write_text(PARAMS)
    git(project, "init", "-q")
    assert changed_params({"seed": 7}) == {}  # no commit yet
    git(project, "add", ".")
    git(project, "commit", "-qm", "start")
    same = {"seed": 123, "pretrain.lr": 0.004, "pretrain.lr_targets": ["a", "b"], "pretrain.new": 1}
    assert changed_params(same) == {}
    assert changed_params(same | {"pretrain.lr": 0.001}) == {"pretrain.lr": 0.001}


def test_without_git_or_with_a_broken_file_there_are_none(project: Path) -> None:
    assert changed_params({"seed": 7}) == {}
    (project / "params.yaml").write_text("a: [\n")
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "start")
    assert changed_params({"seed": 7}) == {}
