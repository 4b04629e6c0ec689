"""Environment variables that must be set before libraries are loaded; none changes a result."""

import os
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

# by these, OpenMP gives fewer threads than asked for; also with an ending, as OMP_DYNAMIC_ALL
LIMITS = ("OMP_THREAD_LIMIT", "KMP_ALL_THREADS", "KMP_MAX_THREADS", "KMP_DEVICE_THREAD_LIMIT")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds of processor time in each period
FEWER_THREADS = ("OMP_DYNAMIC", "OMP_MAX_ACTIVE_LEVELS", *LIMITS)


def prepare() -> None:
    """Set OpenMP's spinning of idle threads to a short time, and turn telemetry off; variables already set stay.

    OpenMP's threads spin while they wait for each other. If another program needs a core, long spinning
    makes training many times slower; without any spinning, training on idle cores is slower.
    """
    for name, value in {
        "GOMP_SPINCOUNT": "2000",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # a machine that ends would be reported with a C++ stack
    }.items():
        os.environ.setdefault(name, value)
    ask_for_fewer_threads(os.environ)


def ask_for_fewer_threads(environment: MutableMapping[str, str]) -> None:
    """Turn limits of OpenMP's threads into the number of threads that torch asks for.

    oneDNN's results are wrong where OpenMP gives fewer threads than were asked for (`llmcore.base.openmp`).
    """
    found = [name for name in environment if name.startswith(FEWER_THREADS)]
    limits = [_positive(environment[name]) for name in found if name.startswith(LIMITS)]
    if any(name.startswith("OMP_MAX_ACTIVE_LEVELS") and environment[name].strip() == "0" for name in found):
        limits.append(1)
    for name in found:
        del environment[name]
    if least := min(filter(None, limits), default=None):
        asked = _positive(environment.get("OMP_NUM_THREADS", "").split(",")[0]) or usable_cores()
        environment["OMP_NUM_THREADS"] = str(min(least, asked))
        environment.pop("MKL_NUM_THREADS", None)  # torch would ask for this number instead


def usable_cores() -> int:
    """Return the number of cores that this process may use, 1 at least; a container may have a share of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        cores = min(cores, int(quota) // int(period))  # ValueError for "max", no quota
    return max(1, cores)


def _positive(text: str) -> int | None:
    """Return a positive integer, None for anything else: OpenMP ignores it too."""
    digits = text.strip()
    return int(digits) or None if digits.isdecimal() and len(digits) < 10 else None
