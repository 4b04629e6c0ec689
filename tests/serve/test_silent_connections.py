"""Connections on which no request comes are closed, and those beyond the limit are refused in OpenAI's form."""

import socket
import time
from contextlib import ExitStack

import httpx2
import pytest
from serve.endpoint import Endpoint
from waiting import comes_true

from llmcore.serve import uvicorn_server


def test_silent_and_dripping_connections_are_closed(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_server, "HEAD_SECONDS", 0.5)
    request = f"GET /health HTTP/1.1\r\nHost: {endpoint.url.removeprefix('http://')}\r\n\r\n".encode()
    with endpoint.connect() as silent, endpoint.connect() as dripping, endpoint.connect() as used:
        for _ in range(3):  # the time of a request does not count for the next
            used.sendall(request)
            read_answer(used)
            time.sleep(0.3)
        used.sendall(request[:5])  # the next begins, and does not go on
        assert silent.recv(1) == b""
        with pytest.raises(OSError, match=r"reset|Broken"):
            drip(dripping)
        assert used.recv(1) == b""


def read_answer(connection: socket.socket) -> None:
    found = b""
    while not found.endswith(b"}"):
        part = connection.recv(1000)
        assert part
        found += part


def drip(connection: socket.socket) -> None:
    for _ in range(20):
        connection.sendall(b"x")
        time.sleep(0.1)


def test_connections_beyond_the_limit_are_refused_until_others_end(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_server, "MAX_CONNECTIONS", 3)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(endpoint.connect())
        refused = httpx2.get(f"{endpoint.url}/health")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "busy"
        assert refused.headers["retry-after"] == "1"
    assert comes_true(lambda: httpx2.get(f"{endpoint.url}/health").is_success)
