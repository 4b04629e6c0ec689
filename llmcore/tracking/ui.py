"""`make ui`: MLflow's pages over the runs of this project, with one small worker, on this machine only."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from llmcore.base.credentials import masked
from llmcore.base.errors import UserError, run_entry_point
from llmcore.base.process import prepare
from llmcore.tracking.mlflow_store import open_existing_store, store_errors
from llmcore.tracking.store_location import database_file, is_server, store_uri

FIRST_PORT = 5000
PORTS = 50
START_SECONDS = 120.0  # that the server may take on a busy machine; usually it takes five
END_SECONDS = 10.0  # between SIGTERM and SIGKILL


def main() -> int:
    """Start the UI, print the page of the trainings when it answers, and wait for Ctrl-C or SIGTERM."""
    prepare()
    return run_entry_point(serve, prints_result=True)


def serve() -> int:
    """Run the server until this process is told to end; afterwards its port is free."""
    check_store(store_uri())
    port = free_port()
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryFile() as log, running(port, log) as server:
        link = page(port)  # while the server starts: it takes as long as the store takes to open
        wait_until_it_answers(server, port, log)
        print(f"The trainings are at\n\n    {link}\n\nCtrl-C ends it.", flush=True)
        try:
            return server.wait()
        except KeyboardInterrupt:
            return 0


def server_command(port: int) -> list[str]:
    """Return the command; the store is no part of it, because a command line, with its password, is for all to see."""
    return [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]


def server_environment() -> dict[str, str]:
    """Return the server's variables. Jobs are for evaluations that this project does not run, and cost 2.5 GB."""
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    return os.environ | own | {"MLFLOW_BACKEND_STORE_URI": store_uri()}


@contextmanager
def running(port: int, log: IO[bytes]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the server with its workers in a group of its own, which ends with the body, however that ends."""
    environment = server_environment() | {"PYTHONUNBUFFERED": "1"}  # the last line of the log is the last one printed
    server = subprocess.Popen(server_command(port), env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield server
    finally:
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not leave the server behind
        _signal(server, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(END_SECONDS)
        _signal(server, getattr(signal, "SIGKILL", signal.SIGTERM))  # its workers, too, if they are left
        server.wait()
        signal.signal(signal.SIGTERM, before)  # or processes that this one starts later would ignore it, too


def _signal(server: "subprocess.Popen[bytes]", number: int) -> None:
    if os.name != "posix":
        server.send_signal(number)
        return
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(server.pid, number)


def wait_until_it_answers(server: "subprocess.Popen[bytes]", port: int, log: IO[bytes]) -> None:
    """Return when the server answers; UserError with its last line if it ends before, or takes too long."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            direct.open(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    log.seek(0)
    lines = log.read().decode(errors="replace").split("\n")
    reason = next((line.strip() for line in reversed(lines) if line.strip()), "no word")
    raise UserError(f"MLFLOW_TRACKING_URI: MLflow's server does not start ({reason}); correct that and try again")


def check_store(uri: str) -> None:
    """Raise UserError unless there is a local store to show."""
    if is_server(uri):
        raise UserError(
            f"MLFLOW_TRACKING_URI is a server with pages of its own, got {masked(uri)!r}; open it in a browser"
        )
    file = database_file(uri)
    if file is not None and not file.exists():
        raise UserError(f"{file}: no runs yet; `dvc repro` makes some")


def page(port: int) -> str:
    """Return the link to the charts of the pretraining runs; without `workflowType` MLflow opens an empty page."""
    store = open_existing_store()
    with store_errors():
        experiment = store.client.get_experiment_by_name("pretrain")
    if experiment is None:
        return f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"
    view = "compareRunsMode=CHART&workflowType=machine_learning"
    return f"http://127.0.0.1:{port}/#/experiments/{experiment.experiment_id}/runs?{view}"


def free_port(first: int = FIRST_PORT) -> int:
    """Return the first port from `first` on that nothing listens at."""
    for port in range(first, first + PORTS):
        with socket.socket() as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just left counts as free
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise UserError(f"ports {first} to {first + PORTS - 1} are all taken; end one of the programs that listen there")


if __name__ == "__main__":
    sys.exit(main())
