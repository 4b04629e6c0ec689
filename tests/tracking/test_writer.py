"""A store that is slow, silent, full, locked, broken or away for a while holds no stage and loses no record."""

import gc
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tracking.stored import (
    TIMEOUT_SECONDS,
    address_of,
    artifact,
    finish_writers,
    history,
    record,
    runs,
    spooled,
    start,
    writers,
)

from llmcore.dvc import parent
from llmcore.tracking import copied, mlflow_store, store_location, writer
from llmcore.tracking.run import tracked_run
from llmcore.tracking.spool import send_spool
from llmcore.tracking.store_location import sqlite_uri

RECORDED = [("FINISHED", {"train/loss": 2.0})]


def recorded() -> list[tuple[str, dict[str, float]]]:
    return [(run.info.status, run.data.metrics) for run in runs()]


def test_end_does_not_wait_for_a_slow_store_and_the_next_run_sends_the_rest(project, params, monkeypatch, capfd):
    """The store answers only when the run has ended."""
    from mlflow import MlflowClient

    ended = threading.Event()
    log_artifact = MlflowClient.log_artifact

    def waits(self: MlflowClient, *arguments: Any) -> None:
        assert ended.wait(TIMEOUT_SECONDS)
        log_artifact(self, *arguments)

    monkeypatch.setattr(MlflowClient, "log_artifact", waits)
    monkeypatch.setattr(writer, "STORE_TIMEOUT_SECONDS", 0.2)
    with tracked_run("pretrain", params) as tracker:
        for step in range(20):
            tracker.log_metrics({"train/loss": 2.0}, step=step)
            tracker.log_artifact(f"{step}.txt", "One day")
    ended.set()
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert len(spooled()) == 1
    finish_writers()
    send_spool(mlflow_store.open_store())
    (run,) = runs()
    assert (run.info.status, spooled()) == ("FINISHED", [])
    assert history(run.info.run_id, "train/loss") == [(step, 2.0) for step in range(20)]
    assert artifact(project, run.info.run_id, "19.txt") == b"One day"


def test_end_waits_longer_for_the_import_of_mlflow_than_for_the_store(project, params, monkeypatch, capfd):
    """On a busy machine the import alone takes half a minute; a store that is never made would never get a run."""
    load = store_location.load_mlflow
    loaded: list[bool] = []

    def slowly() -> None:
        time.sleep(0.5)
        loaded.append(True)
        load()

    monkeypatch.setattr(writer, "STORE_TIMEOUT_SECONDS", 0)
    monkeypatch.setattr(store_location, "load_mlflow", slowly)
    with tracked_run("pretrain", params):
        pass
    assert loaded
    finish_writers()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_waits_it_ends_at_once_and_keeps_the_rest(project, silent_server, number):
    """Neither the request (120 s) nor the wait for the store (30 s) is what ends it."""
    child = start(project, 0, MLFLOW_TRACKING_URI=address_of(silent_server), MLFLOW_HTTP_REQUEST_TIMEOUT="120")
    connection, _ = silent_server.accept()  # it has nothing to do but wait for an answer
    with connection:
        time.sleep(0.2)
        child.send_signal(number)
        _, errors = child.communicate(timeout=writer.STORE_TIMEOUT_SECONDS / 2)
    assert child.returncode != 0, errors
    send_spool(mlflow_store.open_store())
    assert recorded() == RECORDED


def test_stopped_run_does_not_wait_for_a_silent_store(project, params, silent_server, monkeypatch, capfd):
    assert writer.KILLED_TIMEOUT_SECONDS < parent.GRACE_SECONDS  # or the stage would be killed before it spools
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address_of(silent_server))
    monkeypatch.setattr(writer, "KILLED_TIMEOUT_SECONDS", 0.2)
    record(params, range(1, 3), "t1", ends=KeyboardInterrupt)
    assert writers()  # the store has not answered yet
    assert len(spooled()) == 1


def test_store_that_is_away_for_a_while_has_everything_at_the_end(project, params, monkeypatch, capfd):
    open_store = mlflow_store.open_store
    tries: list[int] = []

    def first_away() -> mlflow_store.Store:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no answer")
        return open_store()

    warning = ""
    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store, "open_store", first_away)
        with tracked_run("pretrain", params) as tracker:
            tracker.log_metrics({"train/loss": 2.0}, step=1)
            end = time.monotonic() + TIMEOUT_SECONDS
            while "no answer" not in warning:
                assert time.monotonic() < end
                time.sleep(0.01)
                warning += capfd.readouterr().err
    assert recorded() == RECORDED
    assert spooled() == []
    assert len((warning + capfd.readouterr().err).splitlines()) == 1


def test_locked_database_gets_the_records_when_it_is_free(project, params, monkeypatch, capfd):
    monkeypatch.setattr(writer, "STORE_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(copied, "TIMEOUT_SECONDS", 1.0)
    with closing(sqlite3.connect(project / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with tracked_run("pretrain", params) as tracker:
            tracker.log_metrics({"train/loss": 2.0}, step=1)
        assert len(spooled()) == 1
        finish_writers()
    send_spool(mlflow_store.open_store())
    assert recorded() == RECORDED
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_broken_database_is_named_before_mlflow_tries_it(project, params, monkeypatch, capfd):
    """MLflow itself would try for 100 seconds."""
    import mlflow

    def tried(*_: Any, **__: Any) -> None:
        raise AssertionError("MLflow tries the store")

    monkeypatch.setattr(mlflow, "MlflowClient", tried)
    (project / "mlflow.db").write_bytes(b"this is no database" * 100)
    with tracked_run("pretrain", params):
        pass
    assert "not a database" in capfd.readouterr().err


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
        monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri(folder / "mlflow.db"))
        yield folder
    finally:
        gc.collect()  # connections that MLflow's errors still hold
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_store_that_cannot_be_written_is_one_warning_and_gets_everything_later(
    project, params, small_disk, capfd, fault
):
    if fault == "full":
        with suppress(OSError), open(small_disk / "filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    else:
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with tracked_run("pretrain", params) as tracker:
        tracker.log_metrics({"train/loss": 2.0}, step=1)
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert len(spooled()) == 1
    if fault == "full":
        (small_disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    else:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    child = start(project, 0)  # another process: sqlite keeps its read-only file
    assert child.communicate(timeout=TIMEOUT_SECONDS)[1] == ""
    assert recorded() == RECORDED * 2


def test_training_prints_what_tracking_cost_it_and_another_stage_does_not(project, params, capfd):
    record(params, range(1, 1000), "t1")
    line = capfd.readouterr().err.strip()
    found = re.fullmatch(r"pretrain: tracking took ([\d.]+) s of (\d+) s \(([\d.]+)%\)", line)
    assert found, line
    assert float(found[1]) > 0
    assert 0 < float(found[3]) <= 200  # the thread works beside the training: each may take the whole time
    with tracked_run("tokenize", params):
        pass
    assert capfd.readouterr().err == ""
