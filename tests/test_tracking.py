"""Tracking against real sqlite stores: what was recorded arrives, and nothing that breaks there reaches the work."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from llmcore import mlflow_store, tracking
from llmcore.params import Params, read_params

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
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
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


def test_a_spool_file_that_cannot_be_read_stays_and_harms_no_run(project, params, capfd):
    tracking.spool_folder().mkdir()
    (tracking.spool_folder() / "a.jsonl").write_text("{broken", encoding="utf-8")
    with tracking.run("pretrain", params, SECTIONS) as tracker:
        tracker.log_metrics({"loss/train": 2.0}, step=1)
    assert [run.data.metrics for run in runs()] == [{"loss/train": 2.0}]
    assert (tracking.spool_folder() / "a.jsonl").exists()
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
import sys, time
from llmcore import tracking
from llmcore.params import read_params
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


def test_three_first_starts_at_once_make_one_store(project):
    (project / "mlflow.db").unlink()
    children = [start(project, 0) for _ in range(3)]
    assert [child.communicate(timeout=120)[1] for child in children] == ["", "", ""]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert [run.info.status for run in runs()] == ["FINISHED"] * 3


def test_sigterm_ends_the_run_as_killed(project):
    child = start(project, 60)
    assert child.stdout is not None
    child.stdout.readline()
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
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
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
    assert child.stdout is not None
    child.stdout.readline()
    end = time.monotonic() + 60
    while not [run for run in runs() if "process" in run.data.tags] and time.monotonic() < end:
        time.sleep(0.1)
    record("t1", params, range(1, 3))
    assert sorted(run.info.status for run in runs()) == ["FINISHED", "RUNNING"]  # it may be training elsewhere
    child.kill()
    child.communicate()
    record("t2", params, range(1, 3))
    assert sorted(run.info.status for run in runs()) == ["FINISHED", "FINISHED", "KILLED"]


def test_processes_are_gone_when_they_are_gone_from_this_computer():
    own = mlflow_store.process_name()
    host, number, begin = own.split("/")
    assert not mlflow_store.is_gone(own)
    assert mlflow_store.is_gone(f"{host}/{number}/{int(begin) - 100}")  # its number was given to another
    assert mlflow_store.is_gone(f"{host}/4194305/{begin}")
    assert not mlflow_store.is_gone(f"elsewhere/{number}/1")
    assert not mlflow_store.is_gone("")
