"""Shared by the comparisons with peers: rounds that take turns, medians, rows of the table, the machine's limits."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import torch


@dataclass(frozen=True)
class Row:
    """One line of the results: rates or costs of ours and the peers, in one unit."""

    work: str
    unit: str
    ours: float
    peers: dict[str, float]  # name with version -> the same measure
    more_is_better: bool = True
    goal: str = ""  # in words, as it was set
    limit: str = ""  # what limits it, and how close it is
    notes: list[str] = field(default_factory=list)

    @property
    def best_peer(self) -> str | None:
        if not self.peers:
            return None
        return (max if self.more_is_better else min)(self.peers, key=lambda name: self.peers[name])

    @property
    def ratio(self) -> float | None:
        """How many times as good as the best peer; None without one."""
        if not (best := self.best_peer):
            return None
        return self.ours / self.peers[best] if self.more_is_better else self.peers[best] / self.ours


def take_turns(
    work: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    pause_seconds: float = 0.0,
    summary: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """Return the median seconds of each piece of work: all once to warm up, then `rounds` rounds of all in turn.

    In turn, so that whatever else the machine does slows all alike, with a pause before each.
    """
    for do in work.values():
        do()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, do in work.items():
            time.sleep(pause_seconds)
            begin = time.perf_counter()
            do()
            seconds[name].append(time.perf_counter() - begin)
    return {name: summary(values) for name, values in seconds.items()}


def product_gflops(m: int, k: int, n: int, dtype: torch.dtype = torch.float32) -> float:
    """Return the rate of a linear layer (m, k) x (k, n) here and now: the ceiling of what is built of it."""
    x, weight = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
    seconds = take_turns({"": lambda: torch.nn.functional.linear(x, weight)}, rounds=9)[""]
    return 2 * m * k * n / seconds / 1e9


def read_gigabytes_per_second(dtype: torch.dtype = torch.float32) -> float:
    """Return the rate at which a matrix of 256 MB (in fp32) is read, to be summed: faster than any product."""
    weight = torch.randn(2**26).to(dtype)
    seconds = take_turns({"": weight.sum}, rounds=9)[""]
    return weight.numel() * weight.element_size() / seconds / 1e9


def named(package: str, module: str = "") -> str:
    """Return a package's name with its version; an empty string if it is not installed."""
    try:
        import_module(module or package.replace("-", "_"))
        return f"{package} {version(package)}"
    except (ImportError, PackageNotFoundError):
        return ""


def tell(rows: list[Row]) -> None:
    """Print rows for people, and as one line of JSON for `python -m benchmarks`."""
    for row in rows:
        print(f"{row.work} [{row.unit}]")
        for name, value in {"ours": row.ours, **row.peers}.items():
            print(f"  {name:32}{value:12.4g}")
        if row.ratio:
            print(f"  {'ratio to ' + str(row.best_peer):32}{row.ratio:12.2f}   goal: {row.goal or 'none'}")
        for note in filter(None, [row.limit, *row.notes]):
            print(f"  {note}")
    print(json.dumps({"rows": [asdict(row) for row in rows]}))
