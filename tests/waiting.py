"""Waiting for what other threads or processes do."""

import time
from collections.abc import Callable

POLL_SECONDS = 0.02


def comes_true(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Wait until a condition holds; False if it does not after `seconds`."""
    end = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    return true
