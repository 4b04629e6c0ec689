"""Progress bars: how far, how fast, how long still. Display only."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Bar:
    """A bar of `total` units on stderr; with `enabled` false it prints nothing.

    On a terminal it is redrawn several times a second; in a log file a line every ten seconds is enough.
    """

    def __init__(self, name: str, total: int, unit: str, *, enabled: bool):
        from tqdm import tqdm

        interval = 0.2 if sys.stderr.isatty() else 10.0
        self._bar = tqdm(
            total=total,
            desc=name,
            unit=unit,
            disable=not enabled,
            mininterval=interval,
            maxinterval=interval,
            dynamic_ncols=True,
        )

    def advance(self, units: int = 1, **figures: str) -> None:
        """Go on by `units` and show `figures` behind the bar."""
        if figures:
            self._bar.set_postfix(figures, refresh=False)
        self._bar.update(units)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


def bar(items: Iterable[Item], name: str, total: int, unit: str, *, enabled: bool) -> Iterator[Item]:
    """Yield `items` and advance a bar by one after each."""
    shown = Bar(name, total, unit, enabled=enabled)
    try:
        for item in items:
            yield item
            shown.advance()
    finally:
        shown.close()
