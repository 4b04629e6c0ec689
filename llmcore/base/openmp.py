"""Whether OpenMP gives torch's libraries the threads that torch asks for.

With fewer, oneDNN (fp32 inference, all matmuls in bf16) leaves parts of its results unwritten, without an error.
"""

import ctypes
import sys
from collections.abc import Callable

import torch

QUERIES = ("omp_get_dynamic", "omp_get_thread_limit", "omp_get_max_active_levels")
COLUMNS = 64  # of the compared product, for each thread

_verdicts: dict[tuple[int, ...], bool] = {}


def gives_threads() -> bool:
    """Return whether the calling thread's matmuls get the threads that torch asks for; else print one line.

    A library may change OpenMP's settings at any time, so they are read at each call, in less than a microsecond. For
    each combination that is new, a product is compared.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return True
    settings = (threads, *(query() for query in _queries))
    if settings not in _verdicts:
        _verdicts[settings] = _allows(*settings) and _product_is_right(threads, seed=len(_verdicts))
        if not _verdicts[settings]:
            print(
                f"OpenMP gives fewer than the {threads} threads that torch asks for, so a slower matmul is used; "
                "unset OMP_DYNAMIC, OMP_THREAD_LIMIT and OMP_MAX_ACTIVE_LEVELS, or set OMP_NUM_THREADS=1",
                file=sys.stderr,
            )
    return _verdicts[settings]


def _allows(threads: int, dynamic: int = 0, limit: int = sys.maxsize, levels: int = 1) -> bool:
    """Return whether OpenMP's settings allow a team of `threads`; a dynamic team shrinks when the machine is busy."""
    return not dynamic and limit >= threads and levels >= 1


@torch.no_grad()
def _product_is_right(threads: int, seed: int) -> bool:
    """Compare oneDNN's product with torch's own.

    Each comparison has numbers of its own: what is not written shows the memory's old content, perhaps that of the
    last comparison.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return True
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 64, generator=generator)
    weight = torch.randn(COLUMNS * threads, 64, generator=generator)
    with torch.autocast("cpu", enabled=False):
        found = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return torch.allclose(found, torch.nn.functional.linear(x, weight), atol=1e-3)


def _find_queries() -> list[Callable[[], int]]:
    """Return OpenMP's functions where torch's library has them in reach: on Linux."""
    try:
        library = ctypes.CDLL(None)
        return [getattr(library, name) for name in QUERIES]
    except (AttributeError, OSError, TypeError):
        return []


_queries = _find_queries()
