"""A checkout brings back a run's commit, params.yaml and artifacts, and loses nothing of the user's."""

import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from llmcore.base.errors import UserError
from llmcore.base.files import write_text
from llmcore.base.git import changed_files, git
from llmcore.dvc.files import hash_of
from llmcore.lineage.restore import known_commit, refuse_uncommitted_edits, restore
from llmcore.lineage.runs import Run
from llmcore.tracking.provenance import MAX_TAG_CHARACTERS, changed_tag, git_tags

PIPELINE = """
stages:
  train:
    cmd: python a.py
    deps: [a.py]
    params: [n]
    outs: [out]
"""
SCRIPT = """import os, shutil
os.makedirs("out")
shutil.copy("params.yaml", "out/n")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project of one stage, built and committed with n = 1, then with n = 2."""
    root = tmp_path_factory.mktemp("restore")
    write_text(root / "dvc.yaml", PIPELINE)
    write_text(root / "a.py", SCRIPT)
    with pytest.MonkeyPatch.context() as patch:
        for who in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{who}_NAME", "test")
            patch.setenv(f"GIT_{who}_EMAIL", "test@example.org")
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        git(root, "init", "-q", "-b", "main")
        dvc(root, "init")
        for n in (1, 2):
            write_text(root / "params.yaml", f"n: {n}\n")
            dvc(root, "repro")
            git(root, "add", "-A")
            git(root, "commit", "-qm", str(n))
    return root


def dvc(root: Path, command: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", command, "-q"], cwd=root, check=True, capture_output=True)


@pytest.fixture
def root(built: Path, tmp_path: Path, git_identity: None) -> Path:
    """A copy of the project, with n = 2 in the workspace."""
    return Path(shutil.copytree(built, tmp_path / "project"))


def run_of(root: Path, commit: str = "HEAD", **changes: str) -> Run:
    """Return a run made in the workspace as it is now, as if `commit` were HEAD."""
    tags = git_tags(root) | {"mlflow.source.git.commit": git(root, "rev-parse", commit)}
    hashes = {"in.a.py": hash_of(root / "a.py"), "out.out": hash_of(root / "out")}
    known = {key: value for key, value in hashes.items() if value}
    return Run("f" * 32, "r", "FINISHED", datetime(2030, 1, 1), 1.0, {}, tags | known | changes, ())


def old_run(root: Path) -> Run:
    """Return the run of the first commit, with n = 1."""
    git(root, "checkout", "-q", "HEAD~1")
    dvc(root, "checkout")
    run = run_of(root)
    git(root, "checkout", "-q", "main")
    dvc(root, "checkout")
    return run


def content(root: Path) -> str:
    return (root / "out/n").read_text(encoding="utf-8")


def come_back(root: Path, lines: list[str]) -> None:
    """Run the command that the report ends with."""
    title, _, command = lines[-1].partition(": ")
    assert title == "To come back"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, shell=True, cwd=root, check=True, capture_output=True, env=os.environ | {"PATH": path})


def test_a_run_of_an_old_commit_is_restored_and_the_way_back_works(root: Path) -> None:
    run = old_run(root)
    lines = restore(root, run, b"n: 1\n")
    assert content(root) == "n: 1\n"
    assert git(root, "branch", "--show-current") == ""
    assert lines == [
        f"Now at r (ffffffff), 2030-01-01 00:00: commit {run.commit and run.commit[:10]}, params.yaml of the commit",
        "  a.py  the same as in the run",
        "  out  the same as in the run",
        "To come back: git checkout main && dvc checkout",
    ]
    come_back(root, lines)
    assert (content(root), git(root, "branch", "--show-current")) == ("n: 2\n", "main")


def test_params_that_were_edited_are_put_in_place_and_the_way_back_works(root: Path) -> None:
    lines = restore(root, old_run(root), b"n: 3\n")
    assert (root / "params.yaml").read_text() == "n: 3\n"
    assert lines[0].endswith("params.yaml of the run")
    assert lines[-1] == "To come back: git stash && git checkout main && dvc checkout"
    come_back(root, lines)
    assert (root / "params.yaml").read_text() == content(root) == "n: 2\n"


def test_what_the_cache_has_not_is_named_and_built_by_repro(root: Path) -> None:
    run = old_run(root)
    shutil.rmtree(root / ".dvc/cache/files")
    lines = restore(root, run, None)
    assert "  out  not the same as in the run" in lines
    assert lines[-2].startswith("`dvc repro` restores or builds the rest")
    assert lines[-1].startswith("To come back: git stash && ")


def test_data_that_is_not_in_the_cache_stays(root: Path) -> None:
    run = old_run(root)
    write_text(root / "out/mine", "mine\n")
    lines = restore(root, run, None)
    assert (root / "out/mine").read_text() == "mine\n"
    assert "  out  not the same as in the run" in lines


def test_edited_code_is_named_as_not_restored(root: Path) -> None:
    write_text(root / "a.py", "# an edit\n")
    write_text(root / "params.yaml", "n: 3\n")
    run = run_of(root)
    git(root, "checkout", "-q", ".")
    (restored,) = [line for line in restore(root, run, b"n: 3\n") if "not restored" in line]
    assert restored == "  a.py  not restored: the run used an edited version that is not in its commit"
    assert (root / "a.py").read_text() == SCRIPT


def test_edited_params_that_the_run_did_not_keep_are_named_as_not_restored(root: Path) -> None:
    write_text(root / "params.yaml", "n: 3\n")
    run = run_of(root)
    git(root, "checkout", "-q", ".")
    assert any(line.startswith("  params.yaml  not restored") for line in restore(root, run, None))


def test_edits_whose_names_were_not_recorded_are_mentioned(root: Path) -> None:
    run = run_of(root, **{"git.dirty": "true"})
    del run.tags["git.changed"]
    assert restore(root, run, None)[1].startswith("  some files differed from the commit")


def test_the_way_back_from_a_detached_head_is_its_commit(root: Path) -> None:
    run = old_run(root)
    git(root, "checkout", "-q", "--detach", "main")
    assert (
        restore(root, run, None)[-1] == f"To come back: git checkout {git(root, 'rev-parse', 'main')} && dvc checkout"
    )


@pytest.mark.parametrize("name", ["params.yaml", "a.py", "dvc.lock"])
def test_uncommitted_edits_are_refused_and_nothing_is_changed(root: Path, name: str) -> None:
    run = old_run(root)
    write_text(root / name, "# mine\n")
    before = changed_files(root)
    with pytest.raises(UserError, match=rf"^{name}: must be as in the last commit; commit the edits, or `git stash`"):
        restore(root, run, b"n: 1\n")
    assert (changed_files(root), git(root, "branch", "--show-current")) == (before, "main")


def test_a_params_file_that_is_in_no_commit_is_refused(root: Path) -> None:
    git(root, "rm", "-q", "--cached", "params.yaml")
    git(root, "commit", "-qm", "params.yaml is mine")
    with pytest.raises(UserError, match=r"^params.yaml: must be as in the last commit"):
        refuse_uncommitted_edits(root)


@pytest.mark.parametrize("ignored", [False, True])
def test_an_untracked_file_in_the_way_is_kept(root: Path, ignored: bool) -> None:
    run = old_run(root)
    git(root, "rm", "-q", "a.py")
    git(root, "commit", "-qm", "without a.py")
    write_text(root / "a.py", "mine\n")
    if ignored:
        write_text(root / ".git/info/exclude", "a.py\n")
    with pytest.raises(UserError, match=r"git cannot check it out \(.*a.py.*\); correct that"):
        restore(root, run, None)
    assert (root / "a.py").read_text() == "mine\n"


def test_a_run_whose_commit_is_not_here_is_refused(root: Path) -> None:
    run = run_of(root, **{"mlflow.source.git.commit": "1" * 40})
    with pytest.raises(UserError, match=r"^r: its commit 1+ is not in this repository; `git fetch` it$"):
        known_commit(root, run)
    del run.tags["mlflow.source.git.commit"]
    with pytest.raises(UserError, match=r"^r: was made outside a git repository"):
        known_commit(root, run)
    shutil.rmtree(root / ".git")
    with pytest.raises(UserError, match="must be a git repository with a commit"):
        known_commit(root, run)


def test_a_tag_of_many_files_stays_within_its_limit() -> None:
    tag = changed_tag({f"folder/file{number}.py": "0" * 40 for number in range(500)})
    assert len(tag) <= MAX_TAG_CHARACTERS
    assert '"...": "' in tag
