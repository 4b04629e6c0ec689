"""An engine in a process of its own, which sleeps while others have their turn.

In one process engines share more than the machine: CTranslate2 loads Intel's OpenMP beside torch's, and threads that
spin after one engine's turn take the cores of the next.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

SETTLE_SECONDS = 0.3  # between turns: OpenMP's threads spin for up to 0.2 s before they sleep


class Apart:
    """A function that `make(*arguments)` returns in a new process; a call waits until it has done its work."""

    def __init__(self, make: Callable[..., Callable[..., object]], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._pipe, its = context.Pipe()
        context.Process(target=_work, args=(its, make, arguments), daemon=True).start()
        its.close()
        self._pipe.recv()

    def __call__(self, *arguments: Any) -> None:
        self._pipe.send(arguments)
        self._pipe.recv()


def _work(pipe: Connection, make: Callable[..., Callable[..., object]], arguments: tuple[Any, ...]) -> None:
    do = make(*arguments)
    while True:
        pipe.send(None)
        try:
            given = pipe.recv()
        except EOFError:
            return
        do(*given)
