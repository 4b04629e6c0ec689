"""uvicorn, set up for the endpoint: quiet, bounded, and soon at its end after Ctrl-C."""

import asyncio
import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from llmcore.serve.errors import RETRY_SECONDS, ApiError

SHUTDOWN_SECONDS = 1  # for answers that are being sent
MAX_CONNECTIONS = 1000
HEAD_SECONDS = 10  # for a client to send a request's first line and headers


class Connection(H11Protocol):
    """Closes itself when no request comes: silent clients must not take the place of others.

    Those beyond `MAX_CONNECTIONS` are answered with status 503.
    """

    timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self.app = too_many_connections
        self.watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timer:
            self.timer.cancel()

    def watch(self) -> None:
        """Start the clock where a request is due, and stop it where it has come."""
        due = self.cycle is None or self.cycle.response_complete
        if due and self.timer is None:
            self.timer = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)
        elif self.timer and not due:
            self.timer.cancel()
            self.timer = None


async def too_many_connections(scope: Scope, receive: Receive, send: Send) -> None:
    rule = f"{MAX_CONNECTIONS} connections are open, as many as may"
    headers = {"Retry-After": str(RETRY_SECONDS), "Connection": "close"}
    refused = ApiError(503, f"{rule}; try again later", code="busy", headers=headers)
    await JSONResponse(refused.body, refused.status, refused.headers)(scope, receive, send)


class Server(uvicorn.Server):
    """Ends what the models write before it waits for its connections: open streams end with an error of their own."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        assert isinstance(self.config.app, FastAPI)
        self.config.app.state.close()
        await super().shutdown(sockets)


def server_of(app: FastAPI, log_level: str = "warning") -> Server:
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        loop="asyncio",
        log_level=log_level,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return Server(config)


def run_until_interrupted(app: FastAPI, listener: socket.socket) -> None:
    with suppress(KeyboardInterrupt):  # how it is meant to end
        server_of(app).run(sockets=[listener])
