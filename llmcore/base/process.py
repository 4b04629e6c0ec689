"""Settings of a process that must stand before its libraries are loaded; none changes a result."""

import os


def prepare() -> None:
    """Let waiting threads sleep soon, keep libraries from calling home.

    OpenMP's threads wait for each other by spinning; where another program uses a core as well, long
    spinning makes training many times slower, and none at all makes it slower where none does.
    """
    for name, value in {
        "GOMP_SPINCOUNT": "2000",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)
