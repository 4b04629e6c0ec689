"""Environment variables that must be set before libraries are loaded; none changes a result."""

import os


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
    }.items():
        os.environ.setdefault(name, value)
