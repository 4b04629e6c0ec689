"""Who may ask: with a key whoever sends it, without one only programs and pages of this machine."""

import hmac
import ipaddress
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from llmcore.serve.errors import ApiError

OPEN_PATHS = ("/", "/health")  # for which no key is needed, as for the files of the page


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def loopback_hosts(host: str, port: int) -> frozenset[str]:
    """Return the values of the Host header with which this machine calls a server on `host`."""
    names = {"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host}
    return frozenset(f"{name}:{port}" for name in names) | (names if port == 80 else frozenset())


class Access:
    """Middleware that refuses requests without the key.

    Without a key, those that name another host than `hosts` are refused: a page from elsewhere can give its name the
    address of this machine (DNS rebinding), or send a form here. `hosts` None allows all.
    """

    def __init__(self, app: ASGIApp, *, api_key: str | None, hosts: Collection[str] | None):
        self.app = app
        self.api_key = api_key
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refused := self.refused(scope["path"], Headers(scope=scope))):
            response = JSONResponse(refused.body, refused.status, refused.headers)
            await response(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def refused(self, path: str, headers: Headers) -> ApiError | None:
        """Return why a request is refused, None if it is not."""
        if self.api_key is not None:
            return None if path in OPEN_PATHS or path.startswith("/page/") or self.has_key(headers) else _NO_KEY
        if self.hosts is None:
            return None
        host, origin = headers.get("host", ""), headers.get("origin")
        if host.lower() not in self.hosts:
            return ApiError(403, f"Host: must be the server's own address, got {host!r}", code="host_not_allowed")
        if origin is not None and origin.lower().removeprefix("http://") not in self.hosts:
            return ApiError(403, f"Origin: pages from {origin!r} may not ask this server", code="origin_not_allowed")
        return None

    def has_key(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        assert self.api_key is not None
        # in constant time: how long it takes tells nothing of the key
        return hmac.compare_digest(key.strip().encode(), self.api_key.encode()) and scheme.lower() == "bearer"


_NO_KEY = ApiError(
    401,
    "Authorization: must be `Bearer KEY` with the server's key",
    code="invalid_api_key",
    headers={"WWW-Authenticate": "Bearer"},
)
