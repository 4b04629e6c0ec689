"""Whatever is wrong with the store, each command that needs it says so in one line, and does not harm it."""

import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from structure import ROOT

from llmcore.cli import main
from llmcore.tracking import ui

RUN = "0123456789abcdef" * 2
SECRET = "hunter2"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose model can be opened, whatever it is: only the store is at fault."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("llmcore.serve.register.open_language_model", lambda folder: None)
    (tmp_path / "models/base").mkdir(parents=True)
    (tmp_path / "models/base/model.safetensors").write_bytes(b"weights")
    return tmp_path


def sql(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def text(file: Path, good: bytes) -> None:
    file.write_text("this is no database\n" * 99)


def folder(file: Path, good: bytes) -> None:
    file.mkdir()


def cut_off(file: Path, good: bytes) -> None:
    file.write_bytes(good[: len(good) // 2])


def of_another_program(file: Path, good: bytes) -> None:
    sql(file, "CREATE TABLE cats (name TEXT)")


def newer(file: Path, good: bytes) -> None:
    file.write_bytes(good)
    sql(
        file, "UPDATE alembic_version SET version_num = 'ffffffffffff'", "UPDATE experiments SET artifact_location = ''"
    )


FAULTS: dict[Callable[[Path, bytes], None], str] = {
    text: "file is not a database",
    folder: "unable to open database file",
    cut_off: "database disk image is malformed",
    of_another_program: "it is the database of another program, with the tables cats",
    newer: "Detected out-of-date database schema (found version ffffffffffff",
}
COMMANDS = [
    ["register", "base"],
    ["compare", RUN, RUN],
    ["lineage", RUN],
    ["lineage", RUN, "--checkout"],
    ["ui"],
]


def call(command: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = ui.main() if command == ["ui"] else main(command)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("fault", FAULTS)
def test_reason_is_said_and_the_store_stays(
    fault: Callable[[Path, bytes], None],
    command: list[str],
    project: Path,
    empty_database: bytes,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ui, "server_command", lambda port: [sys.executable, "-c", "import time; time.sleep(60)"])
    file = project / "mlflow.db"
    fault(file, empty_database)
    before = file.read_bytes() if file.is_file() else b""
    code, errors = call(command, capsys)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert FAULTS[fault] in errors
    assert str(file) in errors
    assert "--name" not in errors
    assert "no such run" not in errors
    assert (file.read_bytes() if file.is_file() else b"") == before


@pytest.fixture
def unreachable() -> Iterator[str]:
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


ADDRESSES = {
    f"http://mia:{SECRET}@{{}}": "fails or does not answer (",
    f"postgresql+psycopg2://mia:{SECRET}@{{}}/runs": "refused",
    f"postgresql+nosuch://mia:{SECRET}@{{}}/runs": "nosuch",
    f"mysql+nosuchdriver://mia:{SECRET}@{{}}/runs": "nosuchdriver",
    f"mssql://mia:{SECRET}@{{}}/runs": "its driver pyodbc is not installed; pip install it",
    f"ftp://mia:{SECRET}@{{}}/runs": "",
    "sqlite:////no/such/folder/mlflow.db?mode=ro": "",
    "a/folder": "maintenance mode",
}


@pytest.mark.parametrize("command", COMMANDS[:4], ids=" ".join)
@pytest.mark.parametrize("address", ADDRESSES)
def test_store_elsewhere_that_cannot_be_used_is_one_line_without_its_password(
    address: str,
    command: list[str],
    unreachable: str,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(unreachable))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, errors = call(command, capsys)
    assert (code, len(errors.splitlines())) == (2, 1)
    assert ADDRESSES[address] in errors
    assert SECRET not in errors
    assert "--name" not in errors
    assert "no such run" not in errors


READ_ONLY = """
import os, sys
from llmcore.cli import main
from llmcore.tracking.mlflow_store import open_store
import llmcore.serve.register as register
register.open_language_model = lambda folder: None
open_store().client.search_registered_models()  # imports what the other user may not be allowed to read
os.seteuid(65534)  # root may write everything
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becomes another user")
def test_store_without_permission_to_write_is_named_by_register(project: Path, empty_database: bytes) -> None:
    (project / "mlflow.db").write_bytes(empty_database)
    for path in [project, *project.parents]:
        if Path(tempfile.gettempdir()) in path.parents:
            path.chmod(0o755)
    command = [sys.executable, "-c", READ_ONLY, "register", "base"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": "/tmp"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "mlflow.db: MLflow's store cannot be used (attempt to write a readonly database)" in done.stderr
