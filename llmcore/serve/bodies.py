"""Bodies read from clients and written to them, who may go away at any time or send too much."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from llmcore.serve.errors import ApiError

BODY_SECONDS = 60.0  # for a client to send its request

Result = TypeVar("Result")


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Return the body of a request; ApiError as soon as it is too long, or where it does not come."""
    too_long = ApiError(413, f"body: must have at most {max_bytes} bytes; send several requests")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > max_bytes:
                    raise too_long
    except TimeoutError:
        raise ApiError(408, f"body: must come within {BODY_SECONDS:g} seconds; send it again") from None
    return bytes(body)


async def unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """Return what `work` does; it is cancelled, and ClientDisconnect raised, when the client goes away."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        watch.cancel()


class EventStream(StreamingResponse):
    """Server-sent events; `at_end` is called when they have ended, or the client has gone."""

    def __init__(self, events: AsyncIterator[str], at_end: Callable[[], None]):
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self.at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.at_end()
