"""`make ui` links to the trainings, or says in one line why there is nothing to show."""

import socket

import pytest

from llmcore.base.errors import UserError
from llmcore.tracking import mlflow_store, ui


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


def test_without_a_store_it_is_one_error_line_and_exit_code_2(capsys, tmp_path):
    assert ui.main() == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'mlflow.db'}: no runs yet; `dvc repro` makes some\n"


def test_tracking_server_has_pages_of_its_own():
    with pytest.raises(UserError, match="open it in a browser"):
        ui.check_store("https://mlflow.example.org")


def test_password_of_a_server_is_not_repeated():
    with pytest.raises(UserError, match=r"got 'https://\*\*\*@mlflow.example.org'"):
        ui.check_store("https://user:password@mlflow.example.org")


def test_store_with_its_password_is_not_on_the_command_line(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user:password@host/runs")
    assert not [word for word in ui.server_command(5001) if "password" in word]
    assert ui.server_environment()["MLFLOW_BACKEND_STORE_URI"] == "postgresql://user:password@host/runs"


def test_link_opens_the_charts_of_the_trainings():
    store = mlflow_store.open_store()
    assert ui.page(5001) == "http://127.0.0.1:5001/#/experiments?workflowType=machine_learning"
    number = store.client.create_experiment("pretrain")
    assert ui.page(5001).startswith(f"http://127.0.0.1:5001/#/experiments/{number}/runs?")
    assert ui.page(5001).endswith("workflowType=machine_learning")


def test_taken_port_is_skipped():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert ui.free_port(number) > number
