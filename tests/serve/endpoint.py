"""An endpoint of tiny models on a free port of this machine, for the tests of `llmcore serve`."""

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from llmcore.serve.access import loopback_hosts
from llmcore.serve.app import create_app
from llmcore.serve.limits import Limits
from llmcore.serve.models import ServedModel
from llmcore.serve.scheduler import Scheduler
from llmcore.serve.server import listening
from llmcore.serve.uvicorn_server import server_of

LIMITS = Limits(max_tokens=64, max_characters=4000, max_body_bytes=2**16, max_seconds=30)


@dataclass
class Endpoint:
    """A server that is running."""

    url: str
    models: Mapping[str, ServedModel]
    workers: Mapping[str, Any]

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0} | options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        """Send a body: bytes as they are, anything else as JSON."""
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx2.post(self.url + path, **sent, **options, timeout=30)

    def scheduler(self, name: str) -> Scheduler:
        found = self.workers[name]
        assert isinstance(found, Scheduler)
        return found

    def wait_until_idle(self, name: str, seconds: float = 5.0) -> bool:
        """Return whether nothing is left of any request."""
        scheduler = self.scheduler(name)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if scheduler.n_open == 0 and not scheduler._decoder.busy:
                return True
            time.sleep(0.01)
        return False


@contextmanager
def slowed(served: ServedModel, seconds: float) -> Iterator[None]:
    """Let each pass through a model take longer."""
    hook = served.language_model.body.register_forward_pre_hook(lambda *_: time.sleep(seconds))
    try:
        yield
    finally:
        hook.remove()


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
            yield Endpoint(f"http://127.0.0.1:{port}", models, app.state.workers)
        finally:
            server.should_exit = True
            thread.join()
