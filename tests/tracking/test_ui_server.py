"""`make ui` prints its link when it answers, and leaves nothing behind however it is ended."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from structure import ROOT

from llmcore.tracking import mlflow_store

TIMEOUT_SECONDS = 180  # on a busy machine


def start(project: Path, **environment: str) -> "subprocess.Popen[str]":
    variables = os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(project), "PYTHONUNBUFFERED": "1"} | environment
    command = [sys.executable, "-m", "llmcore.tracking.ui"]
    return subprocess.Popen(
        command, cwd=project, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_ended_ui_leaves_no_server_and_no_port(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow_store.open_store().experiment("pretrain")
    ui = start(tmp_path)
    assert ui.stdout is not None
    try:
        link = ""
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/#/experiments/\d+/runs", link)):
            link = ui.stdout.readline()
            assert link, ui.communicate()
        port = int(found[1])
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/", timeout=30) as reply:  # at once, for the link was printed
            assert reply.status == 200
        servers = psutil.Process(ui.pid).children(recursive=True)
        assert servers
        ui.send_signal(number)
        _, errors = ui.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        ui.kill()
    assert (ui.returncode, errors) == ((143, "") if number == signal.SIGTERM else (0, ""))
    end = time.monotonic() + 20
    while any(server.is_running() and server.status() != psutil.STATUS_ZOMBIE for server in servers):
        assert time.monotonic() < end
        time.sleep(0.1)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_server_that_ends_at_once_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmcore.base.errors import UserError
    from llmcore.tracking import ui

    monkeypatch.setattr(ui, "server_command", lambda port: [sys.executable, "-c", "print('a'); 1 / 0"])
    handler = signal.getsignal(signal.SIGTERM)
    reason = r"does not start \(ZeroDivisionError: division by zero\); correct"
    with (
        open(tmp_path / "log", "w+b") as log,
        pytest.raises(UserError, match=reason),
        ui.running(5999, log) as server,
    ):
        ui.wait_until_it_answers(server, 5999, log)
    assert signal.getsignal(signal.SIGTERM) is handler  # processes started later inherit an ignored signal
