"""What a checkout may overwrite, what it can bring back, and where it leads back to."""

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from llmcore.base.errors import UserError
from llmcore.base.files import write_text
from llmcore.base.git import changed_files, git, new_code
from llmcore.lineage.restore import Plan, need_commit, need_saved, not_reproduced, plan_of, switch, way_back
from llmcore.lineage.runs import Run
from llmcore.tracking.mlflow_store import TAG_CHARACTERS
from llmcore.tracking.provenance import changed_tag, git_tags

LOCK = "stages:\n  train:\n    outs:\n    - {path: models/a, md5: abc.dir}\n"


@pytest.fixture
def root(tmp_path: Path, git_identity: None) -> Path:
    """A repository whose code has two commits, both edits of a.py."""
    git(tmp_path, "init", "-q", "-b", "main")
    for name, text in ((".gitignore", "models/\n"), ("dvc.lock", LOCK), ("params.yaml", "a: 1\n"), ("a.py", "one\n")):
        write_text(tmp_path / name, text)
    (tmp_path / ".dvc").mkdir()
    commit(tmp_path)
    write_text(tmp_path / "a.py", "two\n")
    commit(tmp_path)
    return tmp_path


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "c")


def run_here(root: Path) -> Run:
    """Return a run as the workspace would note it now."""
    return Run("f" * 32, "r", "FINISHED", datetime(2030, 1, 1), 1.0, {}, git_tags(root), ())


def plan(root: Path) -> Plan:
    return Plan(git(root, "rev-parse", "HEAD"), {"params.yaml": b"a: 2\n"}, [])


def test_changed_files_have_the_names_git_would_give_their_content(root: Path) -> None:
    write_text(root / "a.py", "one\n")
    (root / "params.yaml").unlink()
    write_text(root / "new.py", "three\n")
    write_text(root / "notes.txt", "mine\n")
    assert changed_files(root) == {"a.py": git(root, "rev-parse", "HEAD~1:a.py"), "params.yaml": ""}
    assert list(new_code(root)) == ["new.py"]


def test_a_tag_of_many_files_stays_within_its_limit() -> None:
    tag = changed_tag({f"folder/file{number}.py": "0" * 40 for number in range(500)})
    assert len(tag) <= TAG_CHARACTERS
    assert '"...": "' in tag


@pytest.mark.parametrize("name", ["params.yaml", "a.py", "dvc.lock"])
def test_an_edit_that_is_not_committed_stops_it(root: Path, name: str) -> None:
    with open(root / name, "a", encoding="utf-8") as file:
        file.write("# mine\n")
    with pytest.raises(UserError, match=rf"^{name}: must be as in the last commit; commit the edits, or `git stash`"):
        need_saved(root, plan(root), {})
    need_saved(root, plan(root), changed_files(root))  # what the checkout before left is no work of the user's


def test_a_new_file_that_the_run_would_overwrite_stops_it(root: Path) -> None:
    write_text(root / "new.py", "mine\n")
    need_saved(root, plan(root), {})
    with pytest.raises(UserError, match=r"^new.py: must be as in the last commit"):
        need_saved(root, Plan("HEAD", {"new.py": b"theirs\n"}, []), {})


def test_an_artifact_that_the_cache_does_not_have_stops_it(root: Path) -> None:
    write_text(root / "models/a/weights", "mine\n")
    with pytest.raises(UserError, match=r"^models/a: must be in DVC's cache, .*`dvc commit train` keeps it"):
        need_saved(root, plan(root), {})


def test_edited_code_is_found_in_the_commit_that_has_it(root: Path) -> None:
    write_text(root / "a.py", "one\n")
    write_text(root / "params.yaml", "a: 2\n")
    write_text(root / "dvc.lock", LOCK + "# written by DVC\n")
    found = plan_of(root, run_here(root), b"a: 2\n")
    assert found.files == {"a.py": b"one\n", "params.yaml": b"a: 2\n"}
    assert found.lost == []


def test_edited_code_that_no_commit_has_is_named(root: Path) -> None:
    write_text(root / "a.py", "never committed\n")
    assert plan_of(root, run_here(root), b"").lost == ["a.py"]


def test_a_run_without_its_params_lacks_them_unless_the_commit_has_them(root: Path) -> None:
    assert plan_of(root, run_here(root), None).lost == []
    write_text(root / "params.yaml", "a: 2\n")
    assert plan_of(root, run_here(root), None).lost == ["params.yaml"]


def test_the_way_back_is_the_branch_also_after_a_second_checkout(root: Path) -> None:
    assert way_back(root, {}) == "main"
    first = git(root, "rev-parse", "HEAD~1")
    switch(root, first, {})
    assert git(root, "rev-parse", "HEAD") == first
    assert way_back(root, {}) == first
    assert way_back(root, {"back": "main", "head": first}) == "main"
    assert way_back(root, {"back": "main", "head": "another"}) == first


def test_what_the_last_checkout_left_goes_and_new_files_of_the_user_stay(root: Path) -> None:
    write_text(root / "a.py", "restored\n")
    write_text(root / "restored.py", "restored\n")
    left = changed_files(root) | new_code(root)
    write_text(root / "mine.py", "mine\n")
    switch(root, git(root, "rev-parse", "HEAD~1"), left)
    assert (changed_files(root), list(new_code(root))) == ({}, ["mine.py"])
    assert (root / "a.py").read_text() == "one\n"


@pytest.mark.parametrize("ignored", [False, True])
def test_a_file_in_the_way_that_git_does_not_know_is_kept(root: Path, ignored: bool) -> None:
    git(root, "rm", "-q", "a.py")
    commit(root)
    write_text(root / "a.py", "mine\n")
    if ignored:
        write_text(root / ".git/info/exclude", "a.py\n")
    with pytest.raises(UserError, match=r"git cannot check it out \(.*a.py.*\); mend that"):
        switch(root, git(root, "rev-parse", "HEAD~1"), {})
    assert (root / "a.py").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["../a.py", "/tmp/a.py", ".git/config"])
def test_a_store_cannot_name_files_outside_the_project(root: Path, name: str) -> None:
    run = run_here(root)
    run.tags["git.changed"] = json.dumps({name: ""})
    with pytest.raises(UserError, match=r"^r: may only name files of this project"):
        plan_of(root, run, None)


def test_a_commit_that_is_not_here_is_told(root: Path) -> None:
    run = run_here(root)
    run.tags["mlflow.source.git.commit"] = "1" * 40
    with pytest.raises(UserError, match=r"^r: its commit 1+ is not in this repository; `git fetch` it$"):
        need_commit(root, run)
    del run.tags["mlflow.source.git.commit"]
    with pytest.raises(UserError, match=r"^r: was made outside a git repository"):
        need_commit(root, run)
    shutil.rmtree(root / ".git")
    with pytest.raises(UserError, match="must be a git repository with a commit"):
        need_commit(root, run)


def test_stages_that_dvc_could_not_restore_are_read_from_its_words() -> None:
    printed = """\
Running stage 'pretrain':
ERROR: failed to run: python -m stages pretrain, exited with 1
WARNING: failed to run
Stages 'load_gpt2', 'finetune_classifier' and 'track' will be skipped due to this failure
ERROR: failed to reproduce 'pretrain'
"""
    assert not_reproduced(printed) == ["pretrain", "load_gpt2", "finetune_classifier", "track"]
    assert not_reproduced("Data and pipelines are up to date.") == []
