"""MLflow's server with a login: runs arrive with the password, wait for it without, and it is written nowhere."""

import http.server
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structure import ROOT
from tracking.mlflow_server import serving
from tracking.stored import TIMEOUT_SECONDS, spooled, start

PASSWORD = secrets.token_hex(12)  # in no file


@pytest.fixture(params=[401, 403])
def refusing_server(request: pytest.FixtureRequest) -> Iterator[tuple[int, str]]:
    """A server that answers as MLflow's does to a wrong password, or to a user who may only read."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.end_headers()
            self.wfile.write(b"Permission denied")

        def log_message(self, *_: object) -> None:
            pass

        do_POST = do_GET  # noqa: N815

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield request.param, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


REMEDY = {401: "correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD", 403: "can grant EDIT on the experiment"}


def test_refused_login_is_one_line_with_the_remedy_and_the_run_waits(project, refusing_server):
    status, address = refusing_server
    child = start(project, 0, MLFLOW_TRACKING_URI=address, MLFLOW_TRACKING_PASSWORD=PASSWORD)
    _, errors = child.communicate(timeout=TIMEOUT_SECONDS)
    assert child.returncode == 0
    assert errors.count("\n") == 1
    assert REMEDY[status] in errors
    assert len(spooled()) == 1


def as_user(project: Path, address: str, user: str, password: str) -> str:
    """Record a run with a user's login and return what the user sees."""
    login = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
    child = start(project, 0, MLFLOW_TRACKING_URI=address, **login)
    _, errors = child.communicate(timeout=TIMEOUT_SECONDS)
    assert child.returncode == 0
    return errors


def admin(address: str, program: str) -> str:
    """Run a program with the administrator's login and the server's address as its argument."""
    login = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    command = [sys.executable, "-c", program, address]
    return subprocess.run(command, env=os.environ | login, capture_output=True, text=True, check=True).stdout


CREATE = "import sys; from mlflow.server import get_app_client"
CREATE += "; get_app_client('basic-auth', sys.argv[1]).create_user('mia', 'mia-' + '{}')"
COUNT = "import sys; from mlflow import MlflowClient; c = MlflowClient(sys.argv[1])"
COUNT += "; print(len(c.search_runs([e.experiment_id for e in c.search_experiments()])))"


@pytest.mark.exhaustive
def test_basic_auth_takes_runs_of_members_and_a_wrong_password_delays_a_run_only(project: Path) -> None:
    """Two users log into one experiment, because docs/mlflow-auth.ini lets every user write."""
    pytest.importorskip("flask_wtf", reason="needs Flask-WTF (pip install -r requirements-dev.lock)")
    server = project / "server"
    server.mkdir()
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(ROOT / "docs/mlflow-auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": PASSWORD[::-1],
    }
    with serving(f"sqlite:///{server}/runs.db", server, "--app-name", "basic-auth", **environment) as address:
        admin(address, CREATE.format(PASSWORD))
        refused = as_user(project, address, "admin", PASSWORD[1:])
        assert (refused.count("\n"), len(spooled())) == (1, 1)
        assert REMEDY[401] in refused
        assert as_user(project, address, "admin", PASSWORD) == ""
        assert as_user(project, address, "mia", f"mia-{PASSWORD}") == ""
        assert spooled() == []
        assert admin(address, COUNT) == "3\n"
    assert [path for path in project.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()] == []
