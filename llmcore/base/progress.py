"""Progress bars: units done, rate, time left. Display only."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Bar:
    """A progress bar of `total` units on stderr; nothing is printed if `enabled` is false.

    Of them `initial` were done before, which counts for no rate. Bytes ("B") are shown as kB, MB, GB.
    It is redrawn five times per second on a terminal and every ten seconds in a log file.
    """

    def __init__(self, name: str, total: int, unit: str, *, enabled: bool, initial: int = 0):
        from tqdm import tqdm

        interval = 0.2 if sys.stderr.isatty() else 10.0
        self._bar = tqdm(
            total=total,
            initial=initial,
            desc=name,
            unit=unit,
            unit_scale=unit == "B",
            disable=not enabled,
            mininterval=interval,
            maxinterval=interval,
            dynamic_ncols=True,
        )

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def advance(self, units: int = 1, **figures: str) -> None:
        """Advance by `units` and show `figures` behind the bar."""
        if figures:
            self._bar.set_postfix(figures, refresh=False)
        self._bar.update(units)

    def write(self, text: str) -> None:
        """Print a line above the bar."""
        if not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Close the bar; its last state stays visible."""
        self._bar.close()


def bar(items: Iterable[Item], name: str, total: int, unit: str, *, enabled: bool) -> Iterator[Item]:
    """Yield `items` and advance a progress bar by one after each."""
    shown = Bar(name, total, unit, enabled=enabled)
    try:
        for item in items:
            yield item
            shown.advance()
    finally:
        shown.close()
