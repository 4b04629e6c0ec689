"""The pipeline makes the same bytes again: by force, without tracking, from nothing, and those that are committed."""

from pathlib import Path

import pytest
from workspace import Workspace

from llmcore.base.numerics import has_avx2

pytestmark = pytest.mark.slow

TRAININGS = "pretrain finetune_classifier finetune_instruct"


@pytest.mark.exhaustive
def test_trainings_and_evaluations_again_without_tracking_give_the_same_bytes(built: Workspace) -> None:
    """The session's build was tracked."""
    lock = (built.folder / "dvc.lock").read_bytes()
    stages = f"tokenize sample {TRAININGS} evaluate_classifier evaluate_instruct report@finetune_classifier"
    assert built.repro(f"-f -s {stages}") == stages.split()
    assert (built.folder / "dvc.lock").read_bytes() == lock
    assert built.run("git status --porcelain") == ""
    assert built.changed_stages() == []


@pytest.mark.exhaustive
def test_everything_from_scratch_gives_the_same_bytes(built: Workspace) -> None:
    lock = (built.folder / "dvc.lock").read_bytes()
    built.run("dvc repro -f")
    assert (built.folder / "dvc.lock").read_bytes() == lock
    assert built.run("git status --porcelain") == ""


@pytest.mark.skipif(not has_avx2(), reason="portable numerics are for x86 CPUs with AVX2")
def test_the_first_stages_give_the_committed_hashes_on_this_machine(tmp_path: Path) -> None:
    """At the quickstart's full size. golden_losses.json holds those of short trainings."""
    workspace = Workspace(tmp_path)
    workspace.set_params({"runtime.tracking": False})
    built = workspace.repro("sample prepare_spam prepare_instructions")
    assert {"download@text", "tokenize", "sample", "prepare_spam", "prepare_instructions"} <= set(built)
    assert workspace.run("git diff dvc.lock reports") == ""
