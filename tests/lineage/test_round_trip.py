"""From a run back to its workspace: the pipeline built small, a number changed, and the old run checked out."""

import json
import re
import sqlite3
from pathlib import Path

import pytest
from workspace import SMALL, Workspace

from llmcore.dvc.files import hash_of, read_lock

pytestmark = pytest.mark.slow

LINEAGE = "python -m llmcore.cli lineage"


def run_of(workspace: Workspace, stage: str) -> str:
    """Return the id of a stage's newest run."""
    with sqlite3.connect(workspace.folder / "mlflow.db") as database:
        query = "select run_uuid from runs join tags using (run_uuid) where key = 'dvc.stage' and value = ?"
        return database.execute(f"{query} order by start_time desc", (stage,)).fetchone()[0]


def state(workspace: Workspace) -> dict[str, object]:
    """Return params.yaml, and what dvc.lock says of each stage; the files must have the hashes it names."""
    lock = read_lock(workspace.folder / "dvc.lock")
    outs = {out: md5 for stage in lock.values() for out, md5 in stage.outs.items()}
    assert outs == {out: hash_of(workspace.folder / out) for out in outs}
    stages: dict[str, object] = {name: stage for name, stage in lock.items() if name != "track"}
    return stages | {"params.yaml": (workspace.folder / "params.yaml").read_bytes()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Built before params.yaml was committed, as usual; then changed, built and committed again."""
    workspace = Workspace(tmp_path_factory.mktemp("lineage"))
    workspace.set_params(SMALL)
    workspace.repro()
    return workspace


@pytest.fixture(scope="module")
def old(built: Workspace) -> tuple[str, dict[str, object]]:
    """The run and the state before; the workspace goes on to another number of the classifier, committed."""
    run, before = run_of(built, "finetune_classifier"), state(built)
    built.run("git commit -qam built")
    built.set(classifier__lora__rank=4)
    assert built.repro() == ["finetune_classifier", "evaluate_classifier", "track"]
    assert state(built) != before
    return run, before


def test_edits_that_no_commit_has_are_not_lost(built: Workspace, old: tuple[str, dict[str, object]]) -> None:
    before = state(built)
    printed = built.run(f"{LINEAGE} {old[0]} --checkout", code=2)
    assert re.fullmatch(r"error: dvc.lock and \d+ more: must be as in the last commit; .*`git stash` them\n", printed)
    assert state(built) == before
    built.run("git commit -qam 'rank 4'")


def test_an_old_run_gives_its_hashes_back_and_trains_nothing(
    built: Workspace, old: tuple[str, dict[str, object]]
) -> None:
    new, branch = state(built), built.run("git branch --show-current").strip()
    printed = built.run(f"{LINEAGE} {old[0][:12]} --checkout")
    assert state(built) == old[1]
    assert "models/classifier  the same as in the run" in printed
    assert "not the same" not in printed
    assert "builds what" not in printed
    assert built.repro() == ["track"]
    back = f"git checkout --force {branch} && dvc checkout"
    assert printed.endswith(f"To come back: {back}\n")
    built.run(back)
    assert state(built) == new


def test_from_run_to_run_no_commit_is_needed_between(built: Workspace, old: tuple[str, dict[str, object]]) -> None:
    new, latest = state(built), run_of(built, "evaluate_classifier")
    built.run(f"{LINEAGE} {old[0]} --checkout")
    printed = built.run(f"{LINEAGE} {latest} --checkout")
    assert state(built) == new
    assert "not the same" not in printed
    built.run(printed.rpartition("To come back: ")[2])
    assert built.run("git status --porcelain") == ""


def test_an_artifact_leads_to_its_run_its_numbers_and_the_downloads(
    built: Workspace, old: tuple[str, dict[str, object]]
) -> None:
    printed = built.run(f"{LINEAGE} models/classifier")
    assert re.search(rf"finetune_classifier  run .+ \({run_of(built, 'finetune_classifier')[:8]}\)", printed)
    assert "classifier.lora.rank=4," in printed
    assert "  data/raw/text" in printed
    assert "(world, generated here; no rights reserved)" in printed
    assert "no run in the store" not in printed
    assert "changed since" not in printed


def test_a_run_tells_its_code_numbers_inputs_and_outputs(built: Workspace, old: tuple[str, dict[str, object]]) -> None:
    printed = built.run(f"{LINEAGE} {old[0]}")
    assert re.search(r"^  commit  [0-9a-f]+ start$", printed, re.MULTILINE)
    assert re.search(r"^  edits   params.yaml$", printed, re.MULTILINE)
    assert re.search(r"^  models/base  \w{8}  run load_gpt2-", printed, re.MULTILINE)
    assert re.search(r"^  data/spam  \w{8}  run prepare_spam-", printed, re.MULTILINE)
    assert re.search(r"^  models/classifier  \w{8}  not in the workspace$", printed, re.MULTILINE)
    assert re.search(r"^  classifier.lora.rank 16$", printed, re.MULTILINE)


def test_what_the_cache_has_lost_is_named_not_trained(built: Workspace, old: tuple[str, dict[str, object]]) -> None:
    lost = old[1]["finetune_classifier"].outs["models/classifier"]  # type: ignore[attr-defined]
    (built.folder / ".dvc/cache/files/md5" / lost[:2] / lost[2:]).unlink()
    printed = built.run(f"{LINEAGE} {old[0]} --checkout")
    assert (built.folder / "params.yaml").read_bytes() == old[1]["params.yaml"]
    assert "`dvc repro` builds what DVC's cache does not have: finetune_classifier, evaluate_classifier" in printed
    assert "models/classifier  not the same as in the run" in printed
    assert "models/base  the same as in the run" in printed
    built.run(printed.rpartition("To come back: ")[2])


def test_code_that_was_edited_comes_back_once_a_commit_has_it(built: Workspace) -> None:
    script = Path("stages/sample.py")
    text = (built.folder / script).read_text()
    (built.folder / script).write_text(f"{text}\n# an edit\n")
    assert "sample" in built.repro()
    run = run_of(built, "sample")
    edited = state(built)
    built.run("git stash -q && git stash drop -q && git gc -q --prune=now && dvc checkout")
    printed = built.run(f"{LINEAGE} {run} --checkout")
    assert f"{script}  cannot be restored: no commit has what it held in the run" in printed
    built.run(printed.rpartition("To come back: ")[2])
    (built.folder / script).write_text(f"{text}\n# an edit\n")
    built.run("git commit -qam 'an edit' && git checkout -q HEAD~1 && dvc checkout")
    built.run(f"{LINEAGE} {run} --checkout")
    assert (built.folder / script).read_text() == f"{text}\n# an edit\n"
    assert state(built) == edited
    assert json.loads((built.folder / ".dvc/tmp/lineage.json").read_text())["files"].keys() >= {script.as_posix()}
