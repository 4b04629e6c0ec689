"""The last forecast of `llmcore plan`, kept so that runs are compared with it: .ckpt/plan.json, never an output."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, sha256_file, write_json
from llmcore.base.project import project_root


@dataclass(frozen=True)
class KeptForecast:
    """Seconds by stage, when they were forecast (since the epoch), and the hash of params.yaml then."""

    made: float
    params: str
    seconds: Mapping[str, float]


def forecast_file() -> Path:
    return project_root() / ".ckpt/plan.json"


def params_hash() -> str | None:
    """Return the hash of params.yaml; None if there is none."""
    path = Path("params.yaml")
    return sha256_file(path) if path.is_file() else None


def write_forecast(seconds: Mapping[str, float]) -> None:
    """Keep a forecast for the present params.yaml; the one before is forgotten."""
    write_json(forecast_file(), asdict(KeptForecast(time.time(), params_hash() or "", seconds)))


def read_forecast() -> KeptForecast | None:
    """Return the last forecast; None if there is none, or none that can be read."""
    with suppress(OSError, UserError, TypeError):
        return KeptForecast(**read_json(forecast_file()))
    return None


def forecast_seconds(stage: str) -> float | None:
    """Return the forecast of a stage, if there is one for these params."""
    kept = read_forecast()
    return kept.seconds.get(stage) if kept and kept.params == params_hash() else None
