"""A preset takes the place of params.yaml, and no edit is lost."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.config.presets import apply_preset, preset_names
from llmcore.config.read import read_params


@pytest.fixture
def root(tmp_path: Path, git_identity: None) -> Path:
    """A repository with the presets, the quickstart committed as params.yaml."""
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    shutil.copyfile(ROOT / "presets/quickstart.yaml", tmp_path / "params.yaml")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True)


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-qm", "params")


def edit(root: Path, pattern: str = "seed: [0-9]+", new: str = "seed: 987") -> bytes:
    """Change the first place in params.yaml that fits the pattern; return the file."""
    path = root / "params.yaml"
    text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"), count=1)
    assert count
    path.write_text(text, encoding="utf-8")
    return path.read_bytes()


def is_preset(root: Path, name: str) -> bool:
    return (root / "params.yaml").read_bytes() == (root / f"presets/{name}.yaml").read_bytes()


def test_presets_are_listed_by_name(root: Path) -> None:
    assert preset_names(root) == sorted(path.stem for path in (ROOT / "presets").iterdir())
    assert "quickstart" in preset_names(root)
    assert preset_names(root / "presets") == []


def test_a_preset_replaces_params_whole_and_says_what_changed(root: Path) -> None:
    told = apply_preset(root, "book-scratch", force=False).splitlines()
    assert is_preset(root, "book-scratch")
    assert "sources.text.kind: 'world' -> 'the-verdict'" in told
    assert told[-1] == "params.yaml is now preset book-scratch; run `dvc repro`"
    assert not any(line.startswith("seed:") for line in told)


def test_a_preset_in_use_changes_nothing(root: Path) -> None:
    assert apply_preset(root, "quickstart", force=False) == "params.yaml is now preset quickstart; run `dvc repro`"


def test_edits_saved_nowhere_are_not_lost(root: Path) -> None:
    edited = edit(root)
    with pytest.raises(UserError, match=r"^params.yaml: holds edits .*; commit them, or call with --force"):
        apply_preset(root, "book-scratch", force=False)
    assert (root / "params.yaml").read_bytes() == edited
    apply_preset(root, "book-scratch", force=True)
    assert is_preset(root, "book-scratch")


def test_committed_edits_may_be_replaced(root: Path) -> None:
    edit(root)
    commit(root)
    seed = read_params(root / "presets/quickstart.yaml").seed
    assert apply_preset(root, "quickstart", force=False).splitlines()[0] == f"seed: 987 -> {seed}"


def test_from_preset_to_preset_nothing_is_lost(root: Path) -> None:
    apply_preset(root, "book-scratch", force=False)
    apply_preset(root, "gpt2-124m", force=False)
    assert is_preset(root, "gpt2-124m")


def test_a_lost_params_file_is_made_anew(root: Path) -> None:
    (root / "params.yaml").unlink()
    apply_preset(root, "quickstart", force=False)
    assert is_preset(root, "quickstart")


def test_keys_that_come_and_go_are_told(root: Path) -> None:
    edit(root, "  n_layer: [0-9]+", "  layers: 5")
    told = apply_preset(root, "quickstart", force=True).splitlines()
    n_layer = read_params(root / "params.yaml").model.n_layer
    assert told[:-1] == [f"model.n_layer: None -> {n_layer}", "model.layers: 5 -> None"]


def test_without_git_edits_are_not_lost_either(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    apply_preset(root, "book-scratch", force=False)
    edit(root)
    with pytest.raises(UserError, match="holds edits"):
        apply_preset(root, "quickstart", force=False)


@pytest.mark.parametrize("name", ["books", "", "../params", "quickstart.yaml"])
def test_an_unknown_preset_is_told_with_the_known(root: Path, name: str) -> None:
    with pytest.raises(
        UserError, match=r"^NAME: must be one of .*\(book-scratch, .*quickstart.*\), got '.*'; choose one$"
    ):
        apply_preset(root, name, force=True)


def test_outside_a_repository_it_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none; run from the repository's root"):
        apply_preset(tmp_path, "quickstart", force=False)


def test_a_broken_preset_is_not_put_in_place(root: Path) -> None:
    (root / "presets/own.yaml").write_bytes(edit(root, "n_layer: [0-9]+", "n_layer: few"))
    git(root, "checkout", "-q", "params.yaml")
    with pytest.raises(UserError, match=r"presets/own.yaml: model.n_layer must be a valid integer, got 'few'"):
        apply_preset(root, "own", force=True)
    assert is_preset(root, "quickstart")
