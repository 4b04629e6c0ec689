"""One request on its way through a model: the event loop asks, the model's thread answers."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Literal, NamedTuple

from llmcore.config.generation import GenerationConfig
from llmcore.generate.decoder import FinishReason, NewToken
from llmcore.generate.write import Prompts


class Piece(NamedTuple):
    """More text of a row, perhaps none yet, with the token that it came with."""

    row: int
    text: str
    token: NewToken | None  # None where time is up
    finish_reason: FinishReason | Literal["timeout"] | None  # with the last piece


class Generation:
    """Prompts that are continued together, and the pieces of their texts as they come.

    Rows are numbered as by `llmcore.generate.decode.stream`. Made in the event loop, which alone awaits `pieces`.
    """

    def __init__(self, prompts: Prompts, config: GenerationConfig, max_seconds: float):
        self.prompts = prompts
        self.config = config
        self.deadline = time.monotonic() + max_seconds
        self.begun = False  # whether a piece has come
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[list[Piece] | Exception | None] = asyncio.Queue()

    @property
    def n_rows(self) -> int:
        return len(self.prompts.ids) * self.config.n

    def put(self, event: list[Piece] | Exception | None) -> None:
        """Report pieces, an error that ends all rows, or None as the end. Called in the model's thread."""
        self.begun = True
        with suppress(RuntimeError):  # the event loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield the pieces of all rows; raises the error that ended them."""
        while (event := await self._events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            for piece in event:
                yield piece
