"""Shared by the tests of tracking: record a run, in this process or a child, and look at what the store holds."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from structure import ROOT
from waiting import comes_true

from llmcore.config.params import Params
from llmcore.config.stages import stage_info
from llmcore.tracking import mlflow_store
from llmcore.tracking.events import Event
from llmcore.tracking.run import tracked_run
from llmcore.tracking.spool import spool_folder

DEAD_SERVER = "http://127.0.0.1:1"
TIMEOUT_SECONDS = 120.0  # of whatever a test waits for; a busy machine needs long for an import

SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
from llmcore.config.read import read_params
from llmcore.tracking.run import tracked_run
with tracked_run("pretrain", read_params(sys.argv[1])) as tracker:
    tracker.log_metrics({"train/loss": 2.0}, step=1)
    print("inside", flush=True)
    time.sleep(float(sys.argv[2]))
print("mlflow" in sys.modules)
"""


def runs(stage: str = "pretrain") -> list:
    """Return the runs in a stage's experiment, the newest first."""
    client = mlflow_store.open_store().client
    experiment = client.get_experiment_by_name(stage_info(stage).experiment)
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def history(run_id: str, key: str) -> list[tuple[int, float]]:
    points = mlflow_store.open_store().client.get_metric_history(run_id, key)
    return [(point.step, point.value) for point in points]


def artifact(project: Path, run_id: str, name: str, experiment: str = "pretrain") -> bytes:
    return (project / "mlartifacts" / experiment / run_id / "artifacts" / name).read_bytes()


def spooled() -> list[str]:
    return sorted(file.name for file in spool_folder().glob("*.jsonl"))


def metric(step: int) -> Event:
    return {"do": "metrics", "key": "train/loss", "value": 2.0, "time": 1000 + step, "step": step}


def fails(*_: object, **__: object) -> None:
    raise OSError("no answer")


def record(params: Params, steps: range, training: str | None = None, ends: type[BaseException] | None = None) -> None:
    """Record a run with a loss of 1 / step at each step; `ends` is raised at its end."""
    with suppress(KeyboardInterrupt), tracked_run("pretrain", params, training=training) as tracker:
        for step in steps:
            tracker.log_metrics({"train/loss": 1 / step}, step=step)
        if ends:
            raise ends


def start(project: Path, seconds: float, **environment: str) -> "subprocess.Popen[str]":
    """Start a process that records one loss at step 1 and stays in its body for `seconds`."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_ROOT": str(project), **environment}
    command = [sys.executable, "-c", SCRIPT, str(ROOT / "params.yaml"), str(seconds)]
    return subprocess.Popen(
        command, cwd=project, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until_recorded(child: "subprocess.Popen[str]") -> None:
    """Wait until the child is in its body and its run in the store."""
    assert child.stdout is not None
    child.stdout.readline()
    assert comes_true(lambda: bool(runs()), TIMEOUT_SECONDS)


def writers() -> list[threading.Thread]:
    """Return the writers' threads that have not ended."""
    return [thread for thread in threading.enumerate() if thread.name == "mlflow-writer"]


def finish_writers() -> None:
    for thread in writers():
        thread.join(TIMEOUT_SECONDS)


def address_of(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"
