"""From a run back to its workspace: a small pipeline is built, a param changed, and the old run checked out."""

import re
import sqlite3
from pathlib import Path

import pytest
from workspace import Workspace

from llmcore.dvc.files import hash_of, read_lock

pytestmark = pytest.mark.slow

LINEAGE = "python -m llmcore.cli lineage"


def run_of(workspace: Workspace, stage: str) -> str:
    """Return the id of a stage's newest run."""
    with sqlite3.connect(workspace.folder / "mlflow.db") as database:
        query = "select run_uuid from runs join tags using (run_uuid) where key = 'dvc.stage' and value = ?"
        return str(database.execute(f"{query} order by start_time desc", (stage,)).fetchone()[0])


def trained(workspace: Workspace) -> list[str]:
    """Run `dvc repro` and return the stages that ran, without pictures and the ledger."""
    return [stage for stage in workspace.repro() if stage != "track" and not stage.startswith("report@")]


def state(workspace: Workspace) -> dict[str, object]:
    """Return params.yaml and the stages of dvc.lock, after checking that the files have its hashes."""
    lock = read_lock(workspace.folder / "dvc.lock")
    outs = {out: md5 for stage in lock.values() for out, md5 in stage.outs.items()}
    assert outs == {out: hash_of(workspace.folder / out) for out in outs}
    stages: dict[str, object] = {name: stage for name, stage in lock.items() if name != "track"}
    return stages | {"params.yaml": (workspace.folder / "params.yaml").read_bytes()}


@pytest.fixture(scope="module")
def built(small: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A pipeline built with edits of params.yaml that are not committed yet."""
    workspace = small.copy(tmp_path_factory.mktemp("lineage"))
    workspace.run("git reset -q HEAD~")
    workspace.set_params({"runtime.tracking": True})
    return workspace


@pytest.fixture(scope="module")
def old(built: Workspace) -> tuple[str, dict[str, object]]:
    """A run and its state; the workspace has another param of the classifier by now."""
    run = run_of(built, "finetune_classifier")
    before = state(built)
    built.run("git commit -qam built")
    built.set(classifier__lora__rank=4)
    assert trained(built) == ["finetune_classifier", "evaluate_classifier"]
    assert state(built) != before
    return run, before


def test_uncommitted_edits_are_refused(built: Workspace, old: tuple[str, dict[str, object]]) -> None:
    before = state(built)
    printed = built.run(f"{LINEAGE} {old[0]} --checkout", code=2)
    assert re.fullmatch(r"error: dvc.lock and \d+ more: must be as in the last commit; .*`git stash` them\n", printed)
    assert state(built) == before
    built.run("git commit -qam 'rank 4'")


def test_repro_after_a_checkout_restores_the_run_and_trains_nothing(
    built: Workspace, old: tuple[str, dict[str, object]]
) -> None:
    new = state(built)
    branch = built.run("git branch --show-current").strip()
    printed = built.run(f"{LINEAGE} {old[0][:12]} --checkout")
    assert (built.folder / "params.yaml").read_bytes() == old[1]["params.yaml"]
    assert trained(built) == []
    assert state(built) == old[1]
    back = f"git stash && git checkout {branch} && dvc checkout"
    assert printed.endswith(f"To come back: {back}\n")
    built.run(back)
    assert state(built) == new


def test_a_run_of_a_commit_with_its_artifacts_needs_no_repro(
    built: Workspace, old: tuple[str, dict[str, object]]
) -> None:
    """The run was made on top of a commit whose dvc.lock has the run's inputs."""
    new = state(built)
    built.set(evaluate_classifier__batch_size=7)
    assert trained(built) == ["evaluate_classifier"]
    run = run_of(built, "evaluate_classifier")
    built.run("git stash && git stash drop && dvc checkout")
    printed = built.run(f"{LINEAGE} {run} --checkout")
    assert "models/classifier  the same as in the run" in printed
    built.run(printed.rpartition("To come back: ")[2])
    assert state(built) == new
    assert built.run("git status --porcelain") == ""


def test_an_artifact_leads_to_its_run_its_params_and_the_downloads(
    built: Workspace, old: tuple[str, dict[str, object]]
) -> None:
    printed = built.run(f"{LINEAGE} models/classifier")
    assert re.search(rf"finetune_classifier  run .+ \({run_of(built, 'finetune_classifier')[:8]}\)", printed)
    assert "classifier.lora.rank=4," in printed
    assert "  data/raw/text" in printed
    assert "(world, generated here; no rights reserved)" in printed
    assert "no run in the store" not in printed
    assert "changed since" not in printed


def test_a_run_is_described_with_its_code_params_inputs_and_outputs(
    built: Workspace, old: tuple[str, dict[str, object]]
) -> None:
    printed = built.run(f"{LINEAGE} {old[0]}")
    assert re.search(r"^  commit  [0-9a-f]+ start$", printed, re.MULTILINE)
    assert re.search(r"^  edits   params.yaml$", printed, re.MULTILINE)
    assert re.search(r"^  models/base  \w{8}  run .*load_gpt2-", printed, re.MULTILINE)
    assert re.search(r"^  data/spam  \w{8}  run prepare_spam-", printed, re.MULTILINE)
    assert re.search(r"^  models/classifier  \w{8}  not in the workspace$", printed, re.MULTILINE)
    assert re.search(r"^  classifier.lora.rank 16$", printed, re.MULTILINE)


def test_what_the_cache_has_lost_is_named_and_not_trained(built: Workspace, old: tuple[str, dict[str, object]]) -> None:
    lost = old[1]["finetune_classifier"].outs["models/classifier"]  # type: ignore[attr-defined]
    (built.folder / ".dvc/cache/files/md5" / lost[:2] / lost[2:]).unlink()
    printed = built.run(f"{LINEAGE} {old[0]} --checkout")
    assert (built.folder / "params.yaml").read_bytes() == old[1]["params.yaml"]
    assert "`dvc repro` restores or builds the rest" in printed
    assert "models/classifier  not the same as in the run" in printed
    built.run(printed.rpartition("To come back: ")[2])


def test_edited_code_is_named_as_not_restored(built: Workspace) -> None:
    script = Path("stages/sample.py")
    text = (built.folder / script).read_text()
    (built.folder / script).write_text(f"{text}\n# an edit\n")
    assert "sample" in built.repro()
    run = run_of(built, "sample")
    built.run("git stash -q && git stash drop -q && dvc checkout")
    printed = built.run(f"{LINEAGE} {run} --checkout")
    assert f"{script}  not restored: the run used an edited version that is not in its commit" in printed
    assert (built.folder / script).read_text() == text
    built.run(printed.rpartition("To come back: ")[2])
