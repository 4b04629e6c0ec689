"""The pipeline makes the same bytes again: by force, without tracking, and from nothing."""

import pytest
from workspace import Workspace

pytestmark = pytest.mark.slow

TRAININGS = "pretrain finetune_classifier finetune_instruct"


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
