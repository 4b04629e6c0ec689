"""`tracked_run` against a real sqlite store: a run holds what was recorded, and ends as its body did."""

import json
import signal
import threading
from typing import Any

import pytest
from tracking.stored import TIMEOUT_SECONDS, artifact, history, record, runs, start, wait_until_recorded

from llmcore.tracking import mlflow_store
from llmcore.tracking.events import NOTE_TAG
from llmcore.tracking.mlflow_tracker import MlflowTracker
from llmcore.tracking.run import params_of, tracked_run
from llmcore.tracking.tracker import NullTracker, OtherRun, Tracker


def test_run_holds_what_was_recorded(project, params):
    with tracked_run("pretrain", params, note="A first try.") as tracker:
        tracker.log_params({"preset": "quickstart"})
        tracker.log_metrics({"train/loss": 2.5, "val/loss": float("nan")}, step=10)
        tracker.log_metrics({"accuracy": 0.5})
        tracker.set_tags({"model_sha256": "ab12"})
        tracker.log_input("text", "data/raw/text", "c" * 64)
        tracker.log_artifact("samples/a.txt", "One day")
        tracker.log_artifact("tables/p.json", [{"text": "hi", "p": 0.5}])
        tracker.log_artifact("copies/params.yaml", project / "params.yaml")
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert isinstance(tracker, MlflowTracker)
    assert run.info.run_name == tracker.name
    assert run.info.run_name.startswith("pretrain-")
    assert history(run.info.run_id, "train/loss") == [(10, 2.5)]
    assert run.data.metrics == {"train/loss": 2.5, "accuracy": 0.5}
    assert run.data.params["preset"] == "quickstart"
    assert run.data.params["pretrain.lr"] == str(params.pretrain.lr)
    assert run.data.params["model.n_layer"] == str(params.model.n_layer)
    assert run.data.params["seed"] == str(params.seed)
    assert not any(key.startswith("sources.") for key in run.data.params)
    assert {"dvc.stage", "model_sha256"} <= set(run.data.tags)
    assert run.data.tags[NOTE_TAG] == "A first try."
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "tables/p.json", "type": "table"}]
    assert run.inputs.dataset_inputs[0].dataset.name == "text"
    assert artifact(project, run.info.run_id, "params.yaml") == (project / "params.yaml").read_bytes()
    assert artifact(project, run.info.run_id, "copies/params.yaml") == (project / "params.yaml").read_bytes()
    assert artifact(project, run.info.run_id, "samples/a.txt") == b"One day"
    assert json.loads(artifact(project, run.info.run_id, "tables/p.json")) == {
        "columns": ["text", "p"],
        "data": [["hi", 0.5]],
    }


def test_stage_of_a_foreach_logs_its_part_of_a_section_alone(project, params):
    with tracked_run("download@text", params):
        pass
    (run,) = runs("download@text")
    assert run.data.params["sources.text.kind"] == params.sources.text.kind
    assert {key.rpartition(".")[0] for key in run.data.params} == {"sources.text"}


def test_ledger_logs_every_section_but_runtime(params):
    logged = {key.partition(".")[0] for key in params_of("track", params)}
    assert logged == set(type(params).model_fields) - {"runtime"}


def test_run_describes_itself_by_its_final_metrics(project, params):
    with tracked_run("download@text", params) as tracker:
        tracker.log_metrics({"bytes": 1}, step=3)
        tracker.log_metrics({"bytes": 5000})
    assert runs("download@text")[0].data.tags[NOTE_TAG] == "5,000 bytes."


def test_artifact_is_stored_as_it_was_when_logged(project, params):
    with tracked_run("pretrain", params) as tracker:
        (project / "figure.png").write_bytes(b"first")
        tracker.log_artifact("figures/figure.png", project / "figure.png")
        (project / "figure.png").write_bytes(b"second")
    assert artifact(project, runs()[0].info.run_id, "figures/figure.png") == b"first"


def test_picture_is_attached_to_the_newest_run_that_wrote_the_tables(project, params):
    for _ in range(2):
        with tracked_run("pretrain", params) as tracker:
            tracker.set_tags({"out.reports/pretrain/tables": "ab12.dir"})
    with tracked_run("track", params) as ledger:
        made_by = OtherRun("pretrain", "out.reports/pretrain/tables", "ab12.dir")
        ledger.log_artifact("figures/loss.png", "a picture", run=made_by)
    newest, older = runs()
    assert artifact(project, newest.info.run_id, "figures/loss.png") == b"a picture"
    assert not (project / "mlartifacts/pretrain" / older.info.run_id / "artifacts/figures").exists()
    assert not (project / "mlartifacts/pipeline" / runs("track")[0].info.run_id / "artifacts/figures").exists()


@pytest.mark.parametrize("stage", ["pretrain", "load_gpt2"])
def test_picture_of_tables_that_no_run_wrote_stays_with_the_run_that_logs_it(project, params, stage):
    with tracked_run("pretrain", params) as tracker:
        tracker.set_tags({"out.reports/pretrain/tables": "other.dir"})
    with tracked_run("track", params) as ledger:
        ledger.log_artifact("figures/a.png", "x", run=OtherRun(stage, "out.reports/pretrain/tables", "ab12.dir"))
    assert artifact(project, runs("track")[0].info.run_id, "figures/a.png", "pipeline") == b"x"


def test_five_thousand_points_are_recorded_without_the_store_and_arrive_in_few_calls(project, params, monkeypatch):
    """The store writes nothing before all of them are recorded."""
    from mlflow import MlflowClient

    recorded = threading.Event()
    calls: list[int] = []
    log_batch = MlflowClient.log_batch

    def waits(self: MlflowClient, run_id: str, metrics: Any = (), **more: Any) -> None:
        assert recorded.wait(TIMEOUT_SECONDS)
        calls.append(len(metrics))
        log_batch(self, run_id, metrics=metrics, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", waits)
    with tracked_run("pretrain", params) as tracker:
        for step in range(5000):
            tracker.log_metrics({"train/loss": 1 / (step + 1)}, step=step)
        recorded.set()
    assert history(runs()[0].info.run_id, "train/loss") == [(step, 1 / (step + 1)) for step in range(5000)]
    assert len([count for count in calls if count]) <= 10


@pytest.mark.parametrize(
    ("exception", "status"), [(ValueError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(1), "KILLED")]
)
def test_status_says_how_the_body_ended_and_the_exception_goes_on(project, params, exception, status):
    def work() -> None:
        with tracked_run("pretrain", params) as tracker:
            tracker.log_metrics({"train/loss": 1.0}, step=1)
            raise exception

    with pytest.raises(type(exception)):
        work()
    (run,) = runs()
    assert run.info.status == status
    assert run.data.metrics == {"train/loss": 1.0}


def test_dvc_experiment_names_and_tags_the_run(project, params, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "brave-owl")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "1234")
    with tracked_run("pretrain", params):
        pass
    (run,) = runs()
    assert run.info.run_name == "brave-owl"
    assert (run.data.tags["dvc.exp_name"], run.data.tags["dvc.exp_baseline_rev"]) == ("brave-owl", "1234")


def test_name_is_a_function_of_params_and_inputs(project, params):
    def name(lr: float, digest: str) -> str:
        section = params.pretrain.model_copy(update={"lr": lr})
        with tracked_run("pretrain", params.model_copy(update={"pretrain": section})) as tracker:
            tracker.log_input("text", "data/raw/text", digest)
        return str(runs()[0].info.run_name)

    assert name(0.1, "a") == name(0.1, "a")
    assert len({name(0.1, "a"), name(0.2, "a"), name(0.1, "b")}) == 3


def test_sigterm_ends_the_run_as_killed(project):
    child = start(project, 60)
    wait_until_recorded(child)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=TIMEOUT_SECONDS)
    assert child.returncode == 128 + signal.SIGTERM
    (run,) = runs()
    assert run.info.status == "KILLED"
    assert run.data.metrics == {"train/loss": 2.0}


def test_tracking_off_imports_no_mlflow_and_writes_nothing(project):
    before = sorted(project.iterdir())
    child = start(project, 0, LLMCORE_TRACKING="off")
    assert child.communicate(timeout=TIMEOUT_SECONDS)[0].split() == ["inside", "False"]
    assert sorted(project.iterdir()) == before


def test_runtime_tracking_false_records_nothing(project, params):
    off = params.model_copy(update={"runtime": params.runtime.model_copy(update={"tracking": False})})
    with tracked_run("pretrain", off) as tracker:
        tracker.log_metrics({"train/loss": 2.0}, step=1)
    assert isinstance(tracker, NullTracker)
    assert runs() == []


def test_null_tracker_takes_every_call_of_a_tracker():
    tracker: Tracker = NullTracker()
    tracker.log_params({"lr": 0.1})
    tracker.log_metrics({"train/loss": 2.0}, step=1)
    tracker.log_artifact("a.txt", "text", run=OtherRun("pretrain", "out.x", "h"))
    tracker.log_input("text", "data/raw/text", "c")
    tracker.set_tags({"model_sha256": "ab12"})
    tracker.finish("FINISHED")
    calls = {name for name in vars(Tracker) if not name.startswith("_")}
    assert calls == {name for name in vars(NullTracker) if not name.startswith("_")}


# ---- a training that is resumed by another process


def test_resumed_training_is_one_run_with_each_step_once(project, params):
    """The second process sends its whole history again; the times differ, so MLflow alone would keep both."""
    record(params, range(1, 6), "t1", ends=KeyboardInterrupt)
    assert [run.info.status for run in runs()] == ["KILLED"]
    record(params, range(1, 10), "t1")
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert history(run.info.run_id, "train/loss") == [(step, 1 / step) for step in range(1, 10)]


def test_late_end_of_a_killed_process_does_not_undo_a_finished_run(project, params):
    record(params, range(1, 3), "t1")
    store = mlflow_store.open_store()
    store.write(runs()[0].info.run_id, [{"do": "end", "status": "KILLED", "name": "n", "time": 9}])
    assert [run.info.status for run in runs()] == ["FINISHED"]


def test_resumed_training_whose_run_was_deleted_makes_a_new_run(project, params):
    record(params, range(1, 6), "t1", ends=KeyboardInterrupt)
    mlflow_store.open_store().client.delete_run(runs()[0].info.run_id)
    record(params, range(1, 10), "t1")
    (run,) = runs()
    assert len(history(run.info.run_id, "train/loss")) == 9


def test_another_training_is_another_run(project, params):
    record(params, range(1, 3), "t1")
    record(params, range(1, 3), "t2")
    assert len(runs()) == 2
