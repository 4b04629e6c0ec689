"""An endpoint of tiny models on a free port of this machine, for the tests of `llmcore serve`."""

import json
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
from waiting import comes_true

from llmcore.serve.access import loopback_hosts
from llmcore.serve.app import create_app
from llmcore.serve.limits import Limits
from llmcore.serve.models import ServedModel
from llmcore.serve.scheduler import Scheduler
from llmcore.serve.server import listening
from llmcore.serve.thread_queue import ThreadQueue
from llmcore.serve.uvicorn_server import server_of

TIMEOUT_SECONDS = 60.0
LIMITS = Limits(max_tokens=64, max_characters=4000, max_body_bytes=2**16, max_seconds=30)


@dataclass
class Endpoint:
    """A server that is running."""

    url: str
    models: Mapping[str, ServedModel]
    workers: Mapping[str, Any]
    inspections: ThreadQueue

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0} | options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        """Send a body: bytes as they are, anything else as JSON."""
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx2.post(self.url + path, **sent, **options, timeout=30)

    def connect(self) -> socket.socket:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS)

    def send(self, path: str, body: Any) -> socket.socket:
        """Send a request, and return its connection without waiting for the answer."""
        sent, connection = json.dumps(body).encode(), self.connect()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.url.removeprefix('http://')}\r\nContent-Length: {len(sent)}\r\n\r\n"
        )
        connection.sendall(head.encode() + sent)
        return connection

    def scheduler(self, name: str) -> Scheduler:
        found = self.workers[name]
        assert isinstance(found, Scheduler)
        return found

    def wait_until_idle(self, name: str) -> bool:
        """Return whether nothing is left of any request."""
        scheduler = self.scheduler(name)
        return comes_true(lambda: scheduler.n_open == 0 and not scheduler._decoder.busy)

    def wait_until_open(self, name: str, n_requests: int) -> None:
        """Wait until a model has that many requests, begun or not."""
        assert comes_true(lambda: self.scheduler(name).n_open == n_requests)

    def wait_until_cancelled(self, name: str) -> None:
        """Wait until the server has seen that a client has gone, while the model's thread is in a pass."""
        assert comes_true(lambda: not self.scheduler(name)._inbox.empty())


class Gate:
    """Passes through a model come one by one, and each waits until it is let through.

    So a test says what happens during which pass, however busy the machine is.
    """

    def __init__(self) -> None:
        self.passes = 0  # that have come
        self._permits = threading.Semaphore(0)

    def __call__(self, *_: object) -> None:
        self.passes += 1
        assert self._permits.acquire(timeout=TIMEOUT_SECONDS)

    def let(self, passes: int) -> None:
        """Let the next passes through, those that wait and those that will come."""
        self._permits.release(passes)

    def wait_for(self, passes: int) -> None:
        """Wait until that many have come; the last may be waiting."""
        assert comes_true(lambda: self.passes >= passes)

    def open(self) -> None:
        """Let everything through from now on."""
        self._permits.release(10_000)


@contextmanager
def gated(served: ServedModel) -> Iterator[Gate]:
    """Let each pass through a model wait for the test; the gate opens at the end."""
    gate = Gate()
    hook = served.language_model.body.register_forward_pre_hook(gate)
    try:
        yield gate
    finally:
        hook.remove()
        gate.open()


@contextmanager
def running(
    models: Mapping[str, ServedModel],
    limits: Limits = LIMITS,
    api_key: str | None = None,
    hosts: Collection[str] | None = None,
) -> Iterator[Endpoint]:
    """Serve models in a thread; `hosts` are those of the port unless they are given."""
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        app = create_app(models, limits, api_key, loopback_hosts("127.0.0.1", port) if hosts is None else hosts)
        server = server_of(app, log_level="critical")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            yield Endpoint(f"http://127.0.0.1:{port}", models, app.state.workers, app.state.inspections)
        finally:
            server.should_exit = True
            thread.join()
