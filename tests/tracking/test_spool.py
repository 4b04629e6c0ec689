"""Records that did not reach the store are kept, and arrive once: in their run, all of them, however it broke off."""

import json

from tracking.stored import DEAD_SERVER, artifact, fails, history, metric, record, runs, spooled

from llmcore.base.files import write_jsonl
from llmcore.tracking import mlflow_store
from llmcore.tracking.events import Event
from llmcore.tracking.run import tracked_run
from llmcore.tracking.spool import send_spool, spool_folder

HEADER: Event = {"do": "start", "stage": "pretrain", "name": "n", "time": 1000}
ARTIFACT: Event = {"do": "artifact", "name": "a.txt", "base64": "YQ=="}


def test_dead_server_is_one_warning_and_the_next_run_sends_the_records(project, params, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    with tracked_run("pretrain", params) as tracker:
        tracker.log_metrics({"train/loss": 2.0}, step=1)
        tracker.log_artifact("a.txt", "One day")
        tracker.log_artifact("b.png", project / "no such file.png")
    with tracked_run("pretrain", params):
        pass
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert len(spooled()) == 2

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with tracked_run("tokenize", params):
        pass
    assert spooled() == []
    assert [run.info.status for run in runs()] == ["FINISHED", "FINISHED"]
    run = next(run for run in runs() if run.data.metrics)
    assert history(run.info.run_id, "train/loss") == [(1, 2.0)]
    assert run.info.end_time >= run.info.start_time
    assert artifact(project, run.info.run_id, "a.txt") == b"One day"


def test_spool_file_that_cannot_be_read_stays_and_harms_no_other(project, params, capfd):
    spool_folder().mkdir()
    (spool_folder() / "a.jsonl").write_text("{broken", encoding="utf-8")
    write_jsonl(spool_folder() / "b.jsonl", [HEADER, metric(1)])
    with tracked_run("pretrain", params) as tracker:
        tracker.log_metrics({"train/loss": 2.0}, step=1)
    assert [run.data.metrics for run in runs()] == [{"train/loss": 2.0}] * 2
    assert spooled() == ["a.jsonl"]
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_interrupted_sending_goes_on_in_the_same_run(project):
    store = mlflow_store.open_store()
    header = HEADER | {"run_id": store.start(HEADER)}
    events: list[Event] = [
        metric(1),
        {"do": "params", "key": "lr", "value": "1"},
        ARTIFACT,
        {"do": "end", "status": "FINISHED", "name": "n", "time": 2000},
    ]
    store.write(header["run_id"], events[:3])
    write_jsonl(spool_folder() / "a.jsonl", [header, *events])
    send_spool(store)
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert history(run.info.run_id, "train/loss") == [(1, 2.0)]


def test_spooled_run_that_was_begun_in_another_store_is_begun_in_this_one(project):
    write_jsonl(spool_folder() / "a.jsonl", [HEADER | {"run_id": "0" * 32}, metric(1)])
    send_spool(mlflow_store.open_store())
    assert [run.data.metrics for run in runs()] == [{"train/loss": 2.0}]
    assert spooled() == []


def test_spool_file_shrinks_by_what_has_arrived(project, monkeypatch, capfd):
    """However slow the store and short the runs, all of it arrives in the end."""
    store = mlflow_store.open_store()
    write_jsonl(spool_folder() / "a.jsonl", [HEADER, metric(1), ARTIFACT])
    with monkeypatch.context() as patch:
        patch.setattr(store.client, "log_artifact", fails)
        send_spool(store)
    (file,) = spool_folder().glob("*.jsonl")
    assert [json.loads(line)["do"] for line in file.read_text().splitlines()] == ["start", "artifact"]
    send_spool(store)
    (run,) = runs()
    assert run.data.metrics == {"train/loss": 2.0}
    assert artifact(project, run.info.run_id, "a.txt") == b"a"


def test_start_whose_answer_was_lost_makes_no_second_run(project, params, monkeypatch, capfd):
    def begins_and_loses(self: mlflow_store.Store, header: Event) -> str:
        self.start(header)
        raise OSError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store.Store, "begin", begins_and_loses)
        with tracked_run("pretrain", params) as tracker:
            tracker.log_metrics({"train/loss": 2.0}, step=1)
    send_spool(mlflow_store.open_store())
    assert [(run.info.status, run.data.metrics) for run in runs()] == [("FINISHED", {"train/loss": 2.0})]


def test_what_a_killed_process_spooled_arrives_once(project, params, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    record(params, range(1, 6), "t1", ends=KeyboardInterrupt)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    record(params, range(3, 10), "t1")
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert sorted(history(run.info.run_id, "train/loss")) == [(step, 1 / step) for step in range(1, 10)]


def test_where_nothing_can_be_kept_a_line_says_so_and_the_work_goes_on(project, params, monkeypatch, capfd):
    monkeypatch.setattr(mlflow_store, "open_store", fails)
    (project / ".mlflow-spool").write_text("a file where the folder should be")
    with tracked_run("pretrain", params):
        pass
    assert "tracking: records lost (" in capfd.readouterr().err
