"""Serve models on a port of this machine until Ctrl-C."""

import os
import socket
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.serve.limits import Limits

KEY_VARIABLE = "LLMCORE_API_KEY"
MIN_KEY_CHARACTERS = 16


def serve(folders: Sequence[str], *, host: str, port: int, limits: Limits, needs_key: bool, precision: str) -> None:
    """Open the models of `folders`, or those that the pipeline made, and answer requests until Ctrl-C.

    UserError where FastAPI or uvicorn are not installed, the address cannot be used, or a key is needed and missing:
    it is for every address that other machines reach.
    """
    if not (find_spec("fastapi") and find_spec("uvicorn")):
        raise UserError("llmcore serve: needs FastAPI and uvicorn; pip install -e '.[serve]' in the project's folder")
    from llmcore.serve.access import is_loopback, loopback_hosts
    from llmcore.serve.app import create_app
    from llmcore.serve.models import default_folders, open_models
    from llmcore.serve.uvicorn_server import run_until_interrupted

    limits.check()
    key = api_key(os.environ.get(KEY_VARIABLE, "")) if needs_key or not is_loopback(host) else None
    with listening(host, port) as listener:
        port = listener.getsockname()[1]
        models = open_models(folders or default_folders(Path()), precision)
        app = create_app(models, limits, key, None if key else loopback_hosts(host, port))
        names = ", ".join(f"{served.id} ({served.kind})" for served in models.values())
        shown = f"[{host}]" if ":" in host else host
        print(f"{names} at http://{shown}:{port}/v1; Ctrl-C ends it", flush=True)
        run_until_interrupted(app, listener)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; UserError if it cannot be used."""
    if not 0 <= port < 2**16:
        raise UserError(f"--port: must be from 0 (any that is free) to {2**16 - 1}, got {port}; correct it")
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:  # the latter for names such as a..b
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"--host {host} --port {port}: cannot be used ({reason}); choose another host or port"
        ) from None


def api_key(value: str) -> str:
    """Return the key that the environment holds; UserError for one that is missing or easily guessed."""
    if not (len(value) >= MIN_KEY_CHARACTERS and value.isascii() and value.isprintable() and " " not in value):
        rule = f"must hold the key, at least {MIN_KEY_CHARACTERS} letters, digits or signs"
        remedy = f"export {KEY_VARIABLE}=$(openssl rand -hex 16)"
        raise UserError(
            f"{KEY_VARIABLE}: {rule}, where other machines reach the server or --api-key asks for it; {remedy}"
        )
    return value
