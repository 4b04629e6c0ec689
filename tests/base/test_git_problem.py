"""Where git refuses to work, its reason is said: another owner, a damaged repository; no repository is no problem."""

from pathlib import Path

import pytest

from llmcore.base.git import git, git_problem
from llmcore.tracking import events, provenance


@pytest.fixture
def repository(tmp_path: Path, git_identity: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(events, "_warned", False)
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "start")
    return tmp_path


def owned_by_another(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")


def of_a_newer_git(folder: Path, patch: pytest.MonkeyPatch) -> None:
    git(folder, "config", "core.repositoryformatversion", "99")


def with_a_broken_config(folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder / ".git/config").write_text("[core\n")


def of_a_lost_worktree(folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder / ".git").rename(folder / "elsewhere")
    (folder / ".git").write_text(f"gitdir: {folder}/nowhere\n")


PROBLEMS = {
    owned_by_another: "detected dubious ownership in repository",
    of_a_newer_git: "99",
    with_a_broken_config: "bad config",
    of_a_lost_worktree: "not a git repository: ",
}


@pytest.mark.parametrize("spoil", PROBLEMS)
@pytest.mark.parametrize("language", ["C", "de_DE.UTF-8"])
def test_reason_is_said_in_one_line_and_by_the_tracker(
    spoil, language: str, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert git_problem(repository) is None
    monkeypatch.setenv("LANG", language)
    spoil(repository, monkeypatch)
    problem = git_problem(repository)
    assert problem is not None
    assert PROBLEMS[spoil] in problem
    assert "\n" not in problem
    assert provenance.git_tags(repository) == {}
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tracking: no commit is recorded (")


def test_no_repository_and_no_git_are_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_problem(tmp_path) is None
    assert provenance.git_tags(tmp_path) == {}
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_problem(tmp_path) is None
    assert capsys.readouterr().err == ""
