"""Tracking: a stage records its run here, and MLflow receives it in the background.

    with tracked_run("pretrain", params) as tracker:
        tracker.log_metrics({"train/loss": 2.3}, step=10)

Whatever goes wrong in MLflow is a warning and changes no result.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcore.base import parallel
from llmcore.base.containers import flat
from llmcore.config.stages import stage_info
from llmcore.tracking.forecast import forecast_seconds
from llmcore.tracking.tracker import NullTracker, Tracker

if TYPE_CHECKING:
    from llmcore.config.params import Params


@contextmanager
def tracked_run(
    stage: str, params: "Params", *, note: str | None = None, training: str | None = None
) -> Iterator[Tracker]:
    """Track the body as one run of `stage` (`download@text`), with the sections of `params` that it reads.

    `note` is the run's description, by default a sentence about its final metrics. `training` is the id of a
    training that may have begun in an earlier process: its run is continued, and steps it has already are left out.
    The run ends FINISHED; FAILED if the body raises; KILLED on Ctrl-C, SIGTERM or SystemExit; the exception goes on.
    With `runtime.tracking: false` or LLMCORE_TRACKING=off, and in other processes than the first, nothing is recorded
    and MLflow is not imported.
    """
    tracker = _make_tracker(stage, params, note, training)
    tracker.log_params(params_of(stage, params))
    if (seconds := forecast_seconds(stage)) is not None:
        tracker.log_metrics({"forecast_seconds": seconds})  # beside the duration, which MLflow shows
    if Path("params.yaml").is_file():
        tracker.log_artifact("params.yaml", Path("params.yaml"))
    status = "FAILED"
    with _sigterm_exits():
        try:
            yield tracker
            status = "FINISHED"
        except (KeyboardInterrupt, SystemExit):
            status = "KILLED"
            raise
        finally:
            tracker.finish(status)


def params_of(stage: str, params: "Params") -> dict[str, Any]:
    """Return what a stage reads of `params` under dotted keys: `{"pretrain.lr": 0.003}`."""
    whole = params.model_dump(mode="json")
    sections = stage_info(stage).params or [name for name in whole if name != "runtime" and stage == "track"]
    leaves: dict[str, Any] = {}
    for section in sections:
        value = whole
        for part in section.split("."):
            value = value[part]
        leaves |= flat(value, section)
    return leaves


def _make_tracker(stage: str, params: "Params", note: str | None, training: str | None) -> Tracker:
    if not parallel.is_first() or not params.runtime.tracking or os.environ.get("LLMCORE_TRACKING") == "off":
        return NullTracker()
    from llmcore.tracking.mlflow_tracker import MlflowTracker

    return MlflowTracker(stage, params, note=note, training=training)


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that a stopped run is marked as such; a handler of the stage's own stays."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
