"""Work that has a thread of its own, for which requests wait."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from llmcore.serve.errors import ApiError, busy, shutting_down
from llmcore.serve.limits import Limits

Result = TypeVar("Result")


class ThreadQueue:
    """One request after the other. What waits is forgotten when its client goes away; what is computed ends."""

    def __init__(self, name: str, limits: Limits):
        self.limits = limits
        self._closed = False
        self._open: set[Future[Any]] = set()
        self._executor = ThreadPoolExecutor(1, name)

    def close(self) -> None:
        """Let what is being computed end, and refuse what waits."""
        self._closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    @property
    def n_open(self) -> int:
        """Requests that wait or are being computed."""
        return len(self._open)

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Return what `work` does in the thread.

        ApiError with status 429 if too many requests wait, 503 after the limit of time.
        """
        if len(self._open) > self.limits.max_waiting:
            raise busy("too many requests are waiting")
        if self._closed:
            raise shutting_down()
        future = self._executor.submit(work, *arguments)
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.limits.max_seconds)
        except asyncio.CancelledError:
            if self._closed:
                raise shutting_down() from None
            raise  # the client has gone
        except TimeoutError:
            rule = f"the request took longer than {self.limits.max_seconds:g} seconds"
            raise ApiError(503, f"{rule}; send less text, or later", code="timeout") from None
