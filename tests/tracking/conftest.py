"""A project with an empty store, for tests that record runs."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structure import ROOT

from llmcore.config.params import Params
from llmcore.config.read import read_params
from llmcore.tracking import events, mlflow_store


@pytest.fixture(scope="session")
def params() -> Params:
    return read_params(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A store without runs: creating one takes a second, copying none."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DVC_ROOT", str(file.parent))
        mlflow_store.open_store()
    return file.read_bytes()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: bytes) -> Path:
    """A project with an empty store, a params.yaml, and no git."""
    for name in ("MLFLOW_TRACKING_URI", "LLMCORE_TRACKING", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(events, "_warned", False)  # a process warns once; each test stands for a process
    (tmp_path / "params.yaml").write_text("seed: 123  # a comment\n", encoding="utf-8")
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    return tmp_path


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that accepts every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        server.settimeout(120)
        yield server
