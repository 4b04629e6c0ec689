"""Tracking against real sqlite stores: what was recorded arrives, and nothing that breaks there reaches the work."""

import gc
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from llmcore.base import credentials
from llmcore.config.params import Params
from llmcore.config.read import read_params
from llmcore.dvc import parent
from llmcore.tracking import mlflow_store
from llmcore.tracking import tracker as tracking

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = ["seed", "pretrain", "sources.text"]
DEAD_SERVER = "http://127.0.0.1:1"


@pytest.fixture(scope="session")
def params() -> Params:
    return read_params(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> bytes:
    """A store without runs: creating one takes a second, copying none."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DVC_ROOT", str(file.parent))
        mlflow_store.open_store()
    return file.read_bytes()


@pytest.fixture
def project(tmp_path, monkeypatch, empty_database) -> Path:
    """A project with an empty store, a params.yaml, and no git."""
    for name in ("MLFLOW_TRACKING_URI", "LLMCORE_TRACKING", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "_warned", False)
    (tmp_path / "params.yaml").write_text("seed: 123  # a comment\n", encoding="utf-8")
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    return tmp_path


def runs(stage: str = "pretrain") -> list:
    client = mlflow_store.open_store().client
    experiment = client.get_experiment_by_name(mlflow_store.experiment_name(stage))
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def history(run_id: str, key: str) -> list[tuple[int, float]]:
    points = mlflow_store.open_store().client.get_metric_history(run_id, key)
    return [(point.step, point.value) for point in points]


def artifact(project: Path, run_id: str, name: str) -> bytes:
    return (project / "mlartifacts/pretrain" / run_id / "artifacts" / name).read_bytes()


def test_a_run_holds_what_was_recorded(project, params):
    with tracking.run("pretrain", params, SECTIONS, tags={"preset": "quickstart"}, note="A first try.") as tracker:
        tracker.log_metrics({"loss/train": 2.5, "loss/val": float("nan")}, step=10)
        tracker.log_metrics({"accuracy": 0.5})
        tracker.set_tags({"model_sha256": "ab12"})
        tracker.log_dataset("text", "data/raw/text", "c" * 64)
        tracker.log_text("One day", "samples/a.txt")
        tracker.log_table([{"text": "hi", "p": 0.5}], "tables/p.json")
        tracker.log_artifact("params.yaml", "copies")
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == tracker.name()
    assert run.info.run_name.startswith("pretrain-")
    assert history(run.info.run_id, "loss/train") == [(10, 2.5)]
    assert run.data.metrics == {"loss/train": 2.5, "accuracy": 0.5}
    assert run.data.params["pretrain.lr"] == str(params.pretrain.lr)
    assert run.data.params["sources.text.kind"] == params.sources.text.kind
    assert run.data.params["seed"] == str(params.seed)
    assert not any(key.startswith("model.") for key in run.data.params)
    assert {"dvc.stage", "model_sha256", "preset", "mlflow.note.content"} <= set(run.data.tags)
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "tables/p.json", "type": "table"}]
    assert run.inputs.dataset_inputs[0].dataset.name == "text"
    assert artifact(project, run.info.run_id, "params.yaml") == (project / "params.yaml").read_bytes()
    assert artifact(project, run.info.run_id, "copies/params.yaml") == (project / "params.yaml").read_bytes()
    assert artifact(project, run.info.run_id, "samples/a.txt") == b"One day"
    assert json.loads(artifact(project, run.info.run_id, "tables/p.json")) == {
        "columns": ["text", "p"],
        "data": [["hi", 0.5]],
    }


def test_a_run_describes_itself_by_its_final_metrics(project, params):
    with tracking.run("download@text", params, SECTIONS) as tracker:
        tracker.log_metrics({"bytes": 1}, step=3)
        tracker.log_metrics({"bytes": 5000})
    assert runs("download@text")[0].data.tags["mlflow.note.content"] == "5,000 bytes."


def test_a_description_links_to_the_runs_that_the_run_builds_on(project, params):
    with tracking.run("finetune_classifier", params, SECTIONS) as trained:
        trained.set_tags({"model_sha256": "ab12"})
    for _ in range(2):
        with tracking.run("evaluate_classifier", params, SECTIONS, note="Half of them.") as tracker:
            tracker.link_run("finetune_classifier", "model_sha256", "ab12")
    (training,) = runs("finetune_classifier")
    number, run_id = training.info.experiment_id, training.info.run_id
    link = f"[finetune_classifier](#/experiments/{number}/runs/{run_id})"
    assert [run.data.tags["mlflow.note.content"] for run in runs("evaluate_classifier")] == [
        f"Half of them.\n\nBuilds on {link}."
    ] * 2


def test_an_artifact_is_kept_as_it_was_when_logged(project, params):
    with tracking.run("pretrain", params, SECTIONS) as tracker:
        (project / "figure.png").write_bytes(b"first")
        tracker.log_artifact("figure.png")
        (project / "figure.png").write_bytes(b"second")
    assert artifact(project, runs()[0].info.run_id, "figure.png") == b"first"


def test_five_thousand_points_take_seconds_and_all_arrive(project, params):
    begin = time.monotonic()
    with tracking.run("pretrain", params, SECTIONS) as tracker:
        for step in range(5000):
            tracker.log_metrics({"loss/train": 1 / (step + 1)}, step=step)
        recorded = time.monotonic() - begin
    assert recorded < 1
    assert time.monotonic() - begin < 10
    assert history(runs()[0].info.run_id, "loss/train") == [(step, 1 / (step + 1)) for step in range(5000)]


@pytest.mark.parametrize(
    ("exception", "status"), [(ValueError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(1), "KILLED")]
)
def test_the_status_says_how_the_body_ended_and_the_exception_goes_on(project, params, exception, status):
    def work() -> None:
        with tracking.run("pretrain", params, SECTIONS) as tracker:
            tracker.log_metrics({"loss/train": 1.0}, step=1)
            raise exception

    with pytest.raises(type(exception)):
        work()
    (run,) = runs()
    assert run.info.status == status
    assert run.data.metrics == {"loss/train": 1.0}


def test_dvc_experiments_are_named_and_tagged(project, params, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "brave-owl")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "1234")
    with tracking.run("pretrain", params, SECTIONS):
        pass
    (run,) = runs()
    assert run.info.run_name == "brave-owl"
    assert (run.data.tags["dvc.exp_name"], run.data.tags["dvc.exp_baseline_rev"]) == ("brave-owl", "1234")


def test_a_name_is_a_function_of_params_and_inputs(params):
    def name(lr: float, digest: str) -> str:
        tracker = tracking.Tracker("pretrain", record=lambda event: None)
        tracker.log_params({"lr": lr})
        tracker.log_dataset("text", "data/raw/text", digest)
        return tracker.name()

    assert name(0.1, "a") == name(0.1, "a")
    assert len({name(0.1, "a"), name(0.2, "a"), name(0.1, "b")}) == 3


def test_git_state_is_tagged(project, params):
    for command in (
        ["init", "-q"],
        ["add", "params.yaml"],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "c"],
    ):
        subprocess.run(["git", *command], check=True, cwd=project)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=True, cwd=project, capture_output=True, text=True)
    with tracking.run("pretrain", params, SECTIONS):
        pass
    (run,) = runs()
    assert run.data.tags["mlflow.source.git.commit"] == commit.stdout.strip()
    assert run.data.tags["git.dirty"] == "false"
    (project / "params.yaml").write_text("seed: 124\n", encoding="utf-8")
    assert mlflow_store.git_tags(project)["git.dirty"] == "true"


def test_a_run_can_be_linked_to_the_training_that_made_its_model(project, params):
    for value in ("old", "ab12"):
        with tracking.run("pretrain", params, SECTIONS) as tracker:
            tracker.set_tags({"model_sha256": value})
    with tracking.run("track", params, ["seed"]) as tracker:
        tracker.link_run("pretrain", "model_sha256", "ab12")
        tracker.link_run("load_gpt2", "model_sha256", "ab12")
    wanted = next(run.info.run_id for run in runs() if run.data.tags["model_sha256"] == "ab12")
    (ledger,) = runs("track")
    assert ledger.data.tags["run.pretrain"] == wanted
    assert "run.load_gpt2" not in ledger.data.tags


@pytest.mark.parametrize(
    ("stage", "experiment"),
    [
        ("download@text", "data"),
        ("download_weights@gpt2", "data"),
        ("tokenize", "data"),
        ("sample", "data"),
        ("prepare_spam", "data"),
        ("pretrain", "pretrain"),
        ("load_gpt2", "load-gpt2"),
        ("finetune_classifier", "finetune-classifier"),
        ("evaluate_instruct", "evaluate-instruct"),
        ("track", "pipeline"),
    ],
)
def test_each_stage_has_its_experiment(stage, experiment):
    assert mlflow_store.experiment_name(stage) == experiment


def test_a_dead_server_warns_once_and_the_next_run_delivers(project, params, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    with tracking.run("pretrain", params, SECTIONS) as tracker:
        tracker.log_metrics({"loss/train": 2.0}, step=1)
        tracker.log_text("One day", "a.txt")
        tracker.log_artifact("no such file.png")
    with tracking.run("pretrain", params, SECTIONS):
        pass
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert len(list(tracking.spool_folder().glob("*.jsonl"))) == 2

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with tracking.run("tokenize", params, ["tokenizer"]):
        pass
    assert not list(tracking.spool_folder().glob("*.jsonl"))
    assert [run.info.status for run in runs()] == ["FINISHED", "FINISHED"]
    run = next(run for run in runs() if run.data.metrics)
    assert history(run.info.run_id, "loss/train") == [(1, 2.0)]
    assert run.info.end_time >= run.info.start_time
    assert artifact(project, run.info.run_id, "a.txt") == b"One day"


def test_a_broken_store_does_not_hold_the_stage(project, params, capfd):
    (project / "mlflow.db").write_bytes(b"this is no database" * 100)
    begin = time.monotonic()
    with tracking.run("pretrain", params, SECTIONS):
        pass
    assert time.monotonic() - begin < 5
    assert "not a database" in capfd.readouterr().err


def test_a_spool_file_that_cannot_be_read_stays_and_harms_no_other(project, params, capfd):
    tracking.spool_folder().mkdir()
    (tracking.spool_folder() / "a.jsonl").write_text("{broken", encoding="utf-8")
    header = {"do": "start", "stage": "pretrain", "name": "n", "time": 1000}
    tracking.write_jsonl(tracking.spool_folder() / "b.jsonl", [header, metric(1)])
    with tracking.run("pretrain", params, SECTIONS) as tracker:
        tracker.log_metrics({"loss/train": 2.0}, step=1)
    assert [run.data.metrics for run in runs()] == [{"loss/train": 2.0}] * 2
    assert spooled() == ["a.jsonl"]
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_delivery_that_broke_off_goes_on_in_the_same_run(project, params):
    store = mlflow_store.open_store()
    header: mlflow_store.Event = {"do": "start", "stage": "pretrain", "name": "n", "time": 1000}
    header["run_id"] = store.start(header)
    events: list[mlflow_store.Event] = [
        {"do": "metrics", "key": "loss/train", "value": 2.0, "time": 1000, "step": 1},
        {"do": "params", "key": "lr", "value": "1"},
        {"do": "artifact", "name": "a.txt", "base64": "YQ=="},
        {"do": "end", "status": "FINISHED", "name": "n", "time": 2000},
    ]
    store.deliver(header["run_id"], events[:3])
    tracking.write_jsonl(tracking.spool_folder() / "a.jsonl", [header, *events])
    tracking.send_spool(store)
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert history(run.info.run_id, "loss/train") == [(1, 2.0)]


def metric(step: int) -> mlflow_store.Event:
    return {"do": "metrics", "key": "loss/train", "value": 2.0, "time": 1000 + step, "step": step}


def spooled() -> list[str]:
    return sorted(file.name for file in tracking.spool_folder().glob("*.jsonl"))


def test_a_spooled_run_that_was_begun_in_another_store_is_begun_in_this_one(project):
    store = mlflow_store.open_store()
    header = {"do": "start", "stage": "pretrain", "name": "n", "time": 1000, "run_id": "0" * 32}
    tracking.write_jsonl(tracking.spool_folder() / "a.jsonl", [header, metric(1)])
    tracking.send_spool(store)
    assert [run.data.metrics for run in runs()] == [{"loss/train": 2.0}]
    assert spooled() == []


def test_a_spool_file_shrinks_by_what_has_arrived(project, monkeypatch, capfd):
    """However slow the store and short the runs, all of it arrives one day."""
    store = mlflow_store.open_store()
    header = {"do": "start", "stage": "pretrain", "name": "n", "time": 1000}
    tracking.write_jsonl(
        tracking.spool_folder() / "a.jsonl", [header, metric(1), {"do": "artifact", "name": "a.txt", "base64": "YQ=="}]
    )
    with monkeypatch.context() as patch:
        patch.setattr(store, "_write_artifact", fails)
        tracking.send_spool(store)
    (file,) = tracking.spool_folder().glob("*.jsonl")
    assert [json.loads(line)["do"] for line in file.read_text().splitlines()] == ["start", "artifact"]
    tracking.send_spool(store)
    (run,) = runs()
    assert run.data.metrics == {"loss/train": 2.0}
    assert artifact(project, run.info.run_id, "a.txt") == b"a"


def fails(*_: object, **__: object) -> None:
    raise OSError("no answer")


def test_a_start_whose_answer_was_lost_makes_no_second_run(project, params, monkeypatch, capfd):
    def begins_and_loses(self: mlflow_store.Store, header: mlflow_store.Event) -> str:
        self.start(header)
        raise OSError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store.Store, "begin", begins_and_loses)
        with tracking.run("pretrain", params, SECTIONS) as tracker:
            tracker.log_metrics({"loss/train": 2.0}, step=1)
    tracking.send_spool(mlflow_store.open_store())
    assert [(run.info.status, run.data.metrics) for run in runs()] == [("FINISHED", {"loss/train": 2.0})]


# ---- a store that is slow, silent, full, locked, or away for a while


@pytest.fixture
def silent_server(monkeypatch) -> Iterator[str]:
    """The address of a server that accepts every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def finish_couriers() -> None:
    for thread in threading.enumerate():
        if thread.name == "mlflow-courier":
            thread.join(60)


def test_the_end_waits_for_a_slow_store_for_so_long_and_the_next_run_sends_the_rest(
    project, params, monkeypatch, capfd
):
    write = mlflow_store.Store._write

    def slowly(self: mlflow_store.Store, run_id: str, events: list[mlflow_store.Event]) -> None:
        time.sleep(0.5)
        write(self, run_id, events)

    monkeypatch.setattr(mlflow_store.Store, "_write", slowly)
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 1)
    begin = time.monotonic()
    with tracking.run("pretrain", params, SECTIONS) as tracker:
        for step in range(20):
            tracker.log_metrics({"loss/train": 2.0}, step=step)
            tracker.log_text("One day", f"{step}.txt")
    assert time.monotonic() - begin < 5
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert len(spooled()) == 1
    monkeypatch.setattr(mlflow_store.Store, "_write", write)
    finish_couriers()
    tracking.send_spool(mlflow_store.open_store())
    (run,) = runs()
    assert (run.info.status, spooled()) == ("FINISHED", [])
    assert history(run.info.run_id, "loss/train") == [(step, 2.0) for step in range(20)]
    assert artifact(project, run.info.run_id, "19.txt") == b"One day"


def test_the_end_waits_longer_for_mlflow_to_load_than_for_the_store(project, params, monkeypatch, capfd):
    """On a busy compute the import alone takes half a minute; a store that is never made would never get a run."""
    loaded: list[bool] = []

    def slowly() -> None:
        time.sleep(0.5)
        loaded.append(True)

    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(mlflow_store, "load", slowly)
    with tracking.run("pretrain", params, SECTIONS):
        pass
    assert loaded
    finish_couriers()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_waits_it_ends_at_once_and_keeps_the_rest(project, silent_server, number):
    # a request that ran out of time would end the waiting by itself
    child = start(project, 0, MLFLOW_TRACKING_URI=silent_server, MLFLOW_HTTP_REQUEST_TIMEOUT="120")
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.5)  # it has nothing more to do
    begin = time.monotonic()
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    assert child.returncode != 0, errors
    assert time.monotonic() - begin < 2
    tracking.send_spool(mlflow_store.open_store())
    assert [(run.info.status, run.data.metrics) for run in runs()] == [("FINISHED", {"loss/train": 2.0})]


def test_a_stopped_run_waits_less_than_the_stage_has_before_it_is_killed(
    project, params, silent_server, monkeypatch, capfd
):
    assert tracking.HURRY_SECONDS < parent.GRACE_SECONDS
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent_server)
    monkeypatch.setattr(tracking, "HURRY_SECONDS", 0.5)
    begin = time.monotonic()
    record("t1", params, range(1, 3), ends=KeyboardInterrupt)
    assert time.monotonic() - begin < 5
    assert len(spooled()) == 1


def test_a_store_that_is_away_for_a_while_has_everything_at_the_end(project, params, monkeypatch, capfd):
    opens, tries = mlflow_store.open_store, []

    def first_away() -> mlflow_store.Store:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no answer")
        return opens()

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store, "open_store", first_away)
        with tracking.run("pretrain", params, SECTIONS) as tracker:
            tracker.log_metrics({"loss/train": 2.0}, step=1)
            while not tries:
                time.sleep(0.01)
            time.sleep(0.1)
    assert [(run.info.status, run.data.metrics) for run in runs()] == [("FINISHED", {"loss/train": 2.0})]
    assert spooled() == []
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_locked_database_gets_the_records_when_it_is_free(project, params, monkeypatch, capfd):
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 1)
    with closing(sqlite3.connect(project / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with tracking.run("pretrain", params, SECTIONS) as tracker:
            tracker.log_metrics({"loss/train": 2.0}, step=1)
        assert len(spooled()) == 1
        finish_couriers()
    tracking.send_spool(mlflow_store.open_store())
    assert [(run.info.status, run.data.metrics) for run in runs()] == [("FINISHED", {"loss/train": 2.0})]
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.fixture
def small_disk(project, empty_database, monkeypatch) -> Iterator[Path]:
    """The store alone on a file system of its own, with room for a few more pages."""
    folder = project / "disk"
    folder.mkdir()
    size = len(empty_database) + 16 * 4096
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        (folder / "mlflow.db").write_bytes(empty_database)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store.sqlite_uri(folder / "mlflow.db"))
        yield folder
    finally:
        gc.collect()  # connections that MLflow's errors still hold
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_store_that_cannot_be_written_warns_once_and_gets_everything_later(project, params, small_disk, capfd, fault):
    if fault == "full":
        with suppress(OSError), open(small_disk / "filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    else:
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with tracking.run("pretrain", params, SECTIONS) as tracker:
        tracker.log_metrics({"loss/train": 2.0}, step=1)
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert len(spooled()) == 1
    if fault == "full":
        (small_disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    else:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert start(project, 0).communicate(timeout=120)[1] == ""  # another process: sqlite keeps its read-only file
    assert [(run.info.status, run.data.metrics) for run in runs()] == [("FINISHED", {"loss/train": 2.0})] * 2


def test_where_nothing_can_be_kept_a_line_says_so_and_the_work_goes_on(project, params, monkeypatch, capfd):
    monkeypatch.setattr(mlflow_store, "open_store", fails)
    monkeypatch.setattr(tracking, "write_jsonl", fails)
    with tracking.run("pretrain", params, SECTIONS):
        pass
    assert "tracking: records lost (no answer)" in capfd.readouterr().err


def test_a_training_says_what_tracking_cost_it(project, params, monkeypatch, capfd):
    begin = time.monotonic()
    with tracking.run("pretrain", params, SECTIONS, training="t1") as tracker:
        for step in range(1000):
            tracker.log_metrics({"loss/train": 2.0}, step=step)
        assert 0.0001 < tracker.seconds < 1
    whole = time.monotonic() - begin
    line = capfd.readouterr().err.strip()
    found = re.fullmatch(r"pretrain: tracking took ([\d.]+) s of (\d+) s \(([\d.]+)%\)", line)
    assert found, line
    assert float(found[1]) > 0
    assert float(found[2]) <= whole + 0.5
    with tracking.run("tokenize", params, ["tokenizer"]):
        pass
    assert capfd.readouterr().err == ""


# ---- secrets

SECRET = "hunter2-s3cret"
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": SECRET,
    "MLFLOW_TRACKING_PASSWORD": SECRET,
    "MLFLOW_TRACKING_TOKEN": SECRET,
    "AWS_ACCESS_KEY_ID": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "PGPASSWORD": SECRET,
    "LLMCORE_JUDGE_KEY": SECRET,
    "LLMCORE_MIRROR": f"https://user:{SECRET}@mirror.example.org",
}


def test_no_secret_of_the_environment_or_of_a_git_remote_is_kept(project, params):
    for command in ("init -q", "add params.yaml", f"remote add origin https://user:{SECRET}@git.example.org/x"):
        subprocess.run(["git", *command.split()], check=True, cwd=project)
    identity = ["-c", "user.name=a", "-c", "user.email=b"]
    subprocess.run(["git", *identity, "commit", "-qm", "c"], check=True, cwd=project)
    child = start(project, 0, **SECRETS)
    _, errors = child.communicate(timeout=120)
    assert (child.returncode, errors) == (0, "")
    (run,) = runs()
    assert "mlflow.source.git.commit" in run.data.tags
    kept = [path for path in project.rglob("*") if path.is_file() and ".git" not in path.parts]
    assert {"mlflow.db", "params.yaml"} == {path.name for path in kept}
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []


def test_a_password_in_the_address_of_the_store_is_neither_shown_nor_spooled(project):
    child = start(project, 0, MLFLOW_TRACKING_URI=f"http://user:{SECRET}@127.0.0.1:1")
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 0
    assert errors.startswith("tracking: ")
    assert SECRET not in errors
    (file,) = tracking.spool_folder().glob("*.jsonl")
    assert SECRET not in file.read_text()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://user:pa@ss@host:5000/api failed", "at http://***@host:5000/api failed"),
        ("postgresql+psycopg2://u:p@h/db", "postgresql+psycopg2://***@h/db"),
        ("'https://token@host'", "'https://***@host'"),
        ("https://host/a@b and me@example.org", "https://host/a@b and me@example.org"),
    ],
)
def test_what_stands_before_a_host_is_masked(text, shown):
    assert credentials.masked(text) == shown


def test_a_record_that_mlflow_refuses_costs_only_itself(project, params, capfd):
    with tracking.run("pretrain", params, SECTIONS) as tracker:
        tracker.log_metrics({"f1 (ham)": 1.0, "f1": 0.5})
    assert runs()[0].data.metrics == {"f1": 0.5}
    assert "refused" in capfd.readouterr().err


def test_a_deleted_experiment_comes_back(project, params):
    store = mlflow_store.open_store()
    store.client.delete_experiment(store.experiment("pretrain"))
    with tracking.run("pretrain", params, SECTIONS):
        pass
    assert [run.info.status for run in runs()] == ["FINISHED"]


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
from llmcore.tracking import tracker as tracking
from llmcore.config.read import read_params
with tracking.run("pretrain", read_params(sys.argv[1]), ["pretrain"]) as tracker:
    tracker.log_metrics({"loss/train": 2.0}, step=1)
    print("inside", flush=True)
    time.sleep(float(sys.argv[2]))
print("mlflow" in sys.modules)
"""


def start(project: Path, seconds: float, **environment: str) -> subprocess.Popen:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_ROOT": str(project), **environment}
    command = [sys.executable, "-c", SCRIPT, str(ROOT / "params.yaml"), str(seconds)]
    return subprocess.Popen(
        command, cwd=project, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until_begun(child: subprocess.Popen, seconds: float = 60) -> None:
    """Wait until the child is in its work and its run in the store."""
    assert child.stdout is not None
    child.stdout.readline()
    end = time.monotonic() + seconds
    while not runs() and time.monotonic() < end:
        time.sleep(0.1)


def test_three_first_starts_at_once_make_one_store(project):
    (project / "mlflow.db").unlink()
    children = [start(project, 0) for _ in range(3)]
    assert [child.communicate(timeout=120)[1] for child in children] == ["", "", ""]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert [run.info.status for run in runs()] == ["FINISHED"] * 3


def test_sigterm_ends_the_run_as_killed(project):
    child = start(project, 60)
    wait_until_begun(child)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGTERM
    (run,) = runs()
    assert run.info.status == "KILLED"
    assert run.data.metrics == {"loss/train": 2.0}


def test_tracking_off_imports_no_mlflow_and_writes_nothing(project):
    before = sorted(project.iterdir())
    child = start(project, 0, LLMCORE_TRACKING="off")
    assert child.communicate(timeout=60)[0].split() == ["inside", "False"]
    assert sorted(project.iterdir()) == before


def test_runtime_tracking_false_does_the_same(project, params):
    off = params.model_copy(update={"runtime": params.runtime.model_copy(update={"tracking": False})})
    with tracking.run("pretrain", off, SECTIONS) as tracker:
        tracker.log_metrics({"loss/train": 2.0}, step=1)
    assert runs() == []


# ---- a training that goes on in another process


def record(training: str, params: Params, steps: range, ends: type[BaseException] | None = None) -> None:
    """Run a process's part of a training, told by its own clock."""
    with suppress(KeyboardInterrupt), tracking.run("pretrain", params, SECTIONS, training=training) as tracker:
        for step in steps:
            tracker.log_metrics({"loss/train": 1 / step}, step=step)
        if ends:
            raise ends


def test_a_resumed_training_is_one_run_with_each_step_once(project, params):
    """The second process tells everything from its history again; times differ, so MLflow alone would keep both."""
    record("t1", params, range(1, 6), ends=KeyboardInterrupt)
    assert [run.info.status for run in runs()] == ["KILLED"]
    time.sleep(0.002)
    record("t1", params, range(1, 10))
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert history(run.info.run_id, "loss/train") == [(step, 1 / step) for step in range(1, 10)]


def test_while_it_goes_on_the_run_is_running_and_named_by_its_process(project, params):
    store = mlflow_store.open_store()
    header = {"stage": "pretrain", "name": "n", "time": 1000, "training": "t1"}
    first = store.begin(header)
    store.client.set_terminated(first, "KILLED")
    assert store.begin(header) == first
    (run,) = runs()
    assert run.info.status == "RUNNING"
    assert run.data.tags["process"] == mlflow_store.process_name()


def test_what_the_killed_process_spooled_arrives_once_too(project, params, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    record("t1", params, range(1, 6), ends=KeyboardInterrupt)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    record("t1", params, range(3, 10))
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert sorted(history(run.info.run_id, "loss/train")) == [(step, 1 / step) for step in range(1, 10)]


def test_an_end_that_arrives_late_does_not_undo_a_finished_run(project, params):
    record("t1", params, range(1, 3))
    store = mlflow_store.open_store()
    store.deliver(runs()[0].info.run_id, [{"do": "end", "status": "KILLED", "name": "n", "time": 9}])
    assert [run.info.status for run in runs()] == ["FINISHED"]


def test_a_run_that_was_deleted_is_begun_anew(project, params):
    record("t1", params, range(1, 6), ends=KeyboardInterrupt)
    mlflow_store.open_store().client.delete_run(runs()[0].info.run_id)
    record("t1", params, range(1, 10))
    (run,) = runs()
    assert len(history(run.info.run_id, "loss/train")) == 9


def test_another_training_is_another_run(project, params):
    record("t1", params, range(1, 3))
    record("t2", params, range(1, 3))
    assert len(runs()) == 2


def test_a_run_whose_process_was_killed_ends_as_killed_when_the_stage_runs_again(project, params):
    child = start(project, 60)
    wait_until_begun(child)
    record("t1", params, range(1, 3))
    assert sorted(run.info.status for run in runs()) == ["FINISHED", "RUNNING"]  # it may be training elsewhere
    child.kill()
    child.communicate()
    record("t2", params, range(1, 3))
    assert sorted(run.info.status for run in runs()) == ["FINISHED", "FINISHED", "KILLED"]


def test_processes_are_gone_when_they_are_gone_from_this_computer():
    own = mlflow_store.process_name()
    host, number, begin = own.split("/")
    assert not mlflow_store.is_gone(own, age_days=100)
    assert mlflow_store.is_gone(f"{host}/{number}/{int(begin) - 100}", age_days=0)  # its number was given to another
    assert mlflow_store.is_gone(f"{host}/4194305/{begin}", age_days=0)


@pytest.mark.parametrize("name", ["elsewhere/1/1", ""])
def test_processes_of_other_computers_are_gone_after_a_month(name):
    assert not mlflow_store.is_gone(name, age_days=29)
    assert mlflow_store.is_gone(name, age_days=31)
