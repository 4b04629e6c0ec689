"""Git is asked for changed files and for what is committed."""

import shutil
from pathlib import Path

import pytest

from llmcore.base.files import write_text
from llmcore.base.git import changed_files, git, git_succeeds, is_committed, new_code


@pytest.fixture
def root(tmp_path: Path, git_identity: None) -> Path:
    """A repository with two commits of a.py."""
    git(tmp_path, "init", "-q", "-b", "main")
    for text in ("one\n", "two\n"):
        write_text(tmp_path / "a.py", text)
        write_text(tmp_path / "params.yaml", "a: 1\n")
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-qm", text)
    return tmp_path


def test_changed_files_have_the_blob_names_of_their_content(root: Path) -> None:
    write_text(root / "a.py", "one\n")
    (root / "params.yaml").unlink()
    write_text(root / "new.py", "three\n")
    write_text(root / "notes.txt", "mine\n")
    assert changed_files(root) == {"a.py": git(root, "rev-parse", "HEAD~1:a.py"), "params.yaml": ""}
    assert list(new_code(root)) == ["new.py"]


def test_only_the_content_of_the_last_commit_is_committed(root: Path) -> None:
    assert is_committed(root, "a.py")
    write_text(root / "a.py", "one\n")
    write_text(root / "new.py", "three\n")
    assert not is_committed(root, "a.py")
    assert not is_committed(root, "new.py")
    assert not is_committed(root, "missing.py")


def test_a_file_that_git_was_asked_not_to_watch_is_compared_all_the_same(root: Path) -> None:
    git(root, "update-index", "--skip-worktree", "params.yaml")
    write_text(root / "params.yaml", "a: 2\n")
    assert changed_files(root) == {}
    assert not is_committed(root, "params.yaml")


def test_without_git_or_a_repository_nothing_is_committed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(root / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    assert not is_committed(root, "a.py")
    assert not git_succeeds(root, "rev-parse", "HEAD")
    monkeypatch.setenv("PATH", "")
    assert not git_succeeds(root, "--version")
