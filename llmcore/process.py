"""Settings of a process that must stand before its libraries are loaded; none changes a result."""

import os


def prepare() -> None:
    """Let idle threads sleep, keep libraries from calling home.

    OpenMP's threads wait for each other by spinning; where another program uses a core as well, that
    makes training several times slower.
    """
    for name, value in {
        "OMP_WAIT_POLICY": "passive",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)
