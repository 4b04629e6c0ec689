"""`make ui`: MLflow's pages over the runs of this project, with one small worker, on this machine only."""

import os
import socket
import subprocess
import sys

from llmcore.base.credentials import masked
from llmcore.base.errors import UserError, print_user_error
from llmcore.tracking.mlflow_store import open_store
from llmcore.tracking.store_location import database_file, store_uri

FIRST_PORT = 5000
PORTS = 50


def main() -> int:
    """Start the UI, print the page of the trainings, and wait until it ends (Ctrl-C)."""
    try:
        uri = store_uri()
        check_store(uri)
        port = free_port()
    except UserError as error:
        return print_user_error(error)
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    # Jobs are for evaluations that this project does not run, and cost 2.5 GB.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    environment |= {"MLFLOW_BACKEND_STORE_URI": uri}  # a command line, with its password, is for all to see
    server = subprocess.Popen(command, env=environment)  # first: it takes as long to start as the store to open
    try:
        print(f"The trainings are at\n\n    {page(port)}\n\nCtrl-C ends it.", flush=True)
        return server.wait()
    except KeyboardInterrupt:
        server.wait()
        return 0
    except BaseException:
        server.kill()
        raise


def check_store(uri: str) -> None:
    """Raise UserError unless there is a local store to show."""
    if uri.startswith("http"):
        raise UserError(
            f"MLFLOW_TRACKING_URI is a server with pages of its own, got {masked(uri)!r}; open it in a browser"
        )
    file = database_file(uri)
    if file is not None and not file.is_file():
        raise UserError(f"{file}: no runs yet; `dvc repro` makes some")


def page(port: int) -> str:
    """Return the link to the charts of the pretraining runs; without `workflowType` MLflow opens an empty page."""
    experiment = open_store().client.get_experiment_by_name("pretrain")
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
