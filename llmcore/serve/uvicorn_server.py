"""uvicorn, set up for the endpoint: quiet, bounded, and soon at its end after Ctrl-C."""

import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

SHUTDOWN_SECONDS = 1  # for answers that are being sent
MAX_CONNECTIONS = 1000


class Server(uvicorn.Server):
    """Ends what the models write before it waits for its connections: open streams end with an error of their own."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        assert isinstance(self.config.app, FastAPI)
        self.config.app.state.close()
        await super().shutdown(sockets)


def server_of(app: FastAPI, log_level: str = "warning") -> Server:
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        log_level=log_level,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return Server(config)


def run_until_interrupted(app: FastAPI, listener: socket.socket) -> None:
    with suppress(KeyboardInterrupt):  # how it is meant to end
        server_of(app).run(sockets=[listener])
