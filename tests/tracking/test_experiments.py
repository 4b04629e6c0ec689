"""Runs of DVC's experiments, also in a temporary folder or a queue, are recorded in the project's one store."""

import sqlite3
import time
from collections.abc import Iterator

import pytest
from workspace import SMALL, Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A small text, tokenized and committed."""
    workspace = Workspace(tmp_path_factory.mktemp("experiments"))
    workspace.set_params(SMALL | {"runtime.tracking": True})
    workspace.run("dvc repro tokenize && git add -A && git commit -qm built")
    yield workspace
    workspace.run("dvc queue stop --kill", code=None)


def runs(workspace: Workspace) -> dict[str, str]:
    """Return the status of each run of tokenize, by the run's name."""
    query = "select r.name, r.status from runs r join tags t using (run_uuid) where t.key = ? and t.value = ?"
    with sqlite3.connect(f"file:{workspace.folder}/mlflow.db?mode=ro", uri=True) as database:
        return dict(database.execute(query, ("dvc.stage", "tokenize")).fetchall())


def check_one_store(workspace: Workspace, name: str) -> None:
    assert runs(workspace)[name] == "FINISHED"
    assert [path.parent for path in workspace.folder.rglob("mlflow.db")] == [workspace.folder]
    assert [path.parent for path in workspace.folder.rglob("mlartifacts")] == [workspace.folder]


@pytest.mark.exhaustive
def test_experiment_in_a_temporary_folder_is_a_run_of_its_name(built: Workspace) -> None:
    built.run("dvc exp run --temp --name apart -S tokenizer.vocab_size=300 tokenize")
    check_one_store(built, "apart")


def test_queued_experiment_is_a_run_of_its_name(built: Workspace) -> None:
    built.run("dvc exp run --queue --name queued -S tokenizer.vocab_size=310 tokenize")
    built.run("dvc queue start")  # returns at once
    end = time.monotonic() + 300
    while "Success" not in (status := built.run("dvc queue status")):
        assert "Failed" not in status
        assert time.monotonic() < end, status
        time.sleep(1)
    check_one_store(built, "queued")
