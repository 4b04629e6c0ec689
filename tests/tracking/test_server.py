"""A team's store: an MLflow server on PostgreSQL takes two pipelines at once, from their first start on."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structure import ROOT
from tracking.mlflow_server import serving
from workspace import SMALL, Workspace

pytestmark = pytest.mark.slow

TARGETS = ("load_gpt2", "prepare_spam")  # and what they need: eight stages each, one of them a training


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The address of an empty database in a cluster of its own, which listens on a socket in a folder of its own."""
    pytest.importorskip("psycopg2", reason="needs psycopg2 (pip install -r requirements-dev.lock)")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    if not found[-1].is_file():
        pytest.skip("needs the server of PostgreSQL (apt-get install postgresql)")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # the name of a socket must be short
        folder = Path(name)
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # PostgreSQL refuses to be root
        if user:
            shutil.chown(folder, "postgres")

        def run(program: str, *arguments: str) -> None:
            command = [*user, str(found[-1].with_name(program)), "-D", f"{folder}/data", *arguments]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

        run("initdb", "--username=llmcore", "--auth=trust", "--no-sync")
        settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "start", "--wait", "-l", f"{folder}/log", "-o", settings)
        try:
            yield f"postgresql+psycopg2://llmcore@/postgres?host={folder}"
        finally:
            run("pg_ctl", "stop", "--mode=immediate")


@pytest.mark.exhaustive
@pytest.mark.server
def test_server_takes_the_runs_of_two_pipelines_at_once_without_an_error(database: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    pipelines = [Workspace(tmp_path / name) for name in ("one", "two")]
    for workspace in pipelines:
        workspace.set_params(SMALL | {"runtime.tracking": True})
    with serving(database, tmp_path) as address, ThreadPoolExecutor(2) as pool:
        command = f"dvc repro {' '.join(TARGETS)}"
        printed = list(pool.map(lambda workspace: workspace.run(command, MLFLOW_TRACKING_URI=address), pipelines))
        client = MlflowClient(address)
        experiments = {found.experiment_id: found.name for found in client.search_experiments()}
        runs = client.search_runs(list(experiments))
        kept = {
            Path(client.download_artifacts(run.info.run_id, "params.yaml", str(tmp_path))).read_bytes() for run in runs
        }

    assert [line for text in printed for line in text.splitlines() if line.startswith("tracking:")] == []
    assert len(set(experiments.values())) == len(experiments)
    assert {run.info.status for run in runs} == {"FINISHED"}
    names = [experiments[run.info.experiment_id] for run in runs]
    assert {name: names.count(name) for name in names} == {"data": 12, "pretrain": 2, "load-gpt2": 2}
    assert all(run.info.artifact_uri.startswith("mlflow-artifacts:") for run in runs)
    assert kept == {(pipelines[0].folder / "params.yaml").read_bytes()}
    for workspace in pipelines:
        assert not list(workspace.folder.glob("mlflow.db*")) + list(workspace.folder.glob(".mlflow-spool/*.jsonl"))


RUN = """
import sys
from llmcore.tracking.run import tracked_run
from llmcore.config.read import read_params
with tracked_run("pretrain", read_params(sys.argv[1])) as tracker:
    tracker.log_metrics({"train/loss": 2.0}, step=1)
"""


def test_password_in_the_address_of_a_server_is_not_printed(tmp_path: Path) -> None:
    """MLflow itself prints a link to each run that ends."""
    with serving(f"sqlite:///{tmp_path}/mlflow.db", tmp_path) as address:
        variables = {"MLFLOW_TRACKING_URI": address.replace("//", "//mia:hunter2@"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", RUN, str(ROOT / "params.yaml")]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
