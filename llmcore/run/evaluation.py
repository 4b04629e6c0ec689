"""Shared by the evaluation stages: the tracked run of a model on test rows, and what it writes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmcore.base.files import fresh_folder, read_jsonl, sha256_file, write_json
from llmcore.base.seeds import numpy_generator
from llmcore.config.params import Params
from llmcore.evaluate.scores import Uncertainty
from llmcore.model.weights import WEIGHTS_FILE
from llmcore.tracking.results import RESULTS_FOLDER
from llmcore.tracking.run import tracked_run
from llmcore.tracking.tracker import Tracker

MAX_TRACKED_ROWS = 200  # of a table in MLflow


@contextmanager
def evaluation_run(stage: str, params: Params, model_folder: Path) -> Iterator[Tracker]:
    """Track the body as the evaluation of a model."""
    with tracked_run(stage, params) as tracker:
        tracker.set_tags({"model_sha256": sha256_file(model_folder / WEIGHTS_FILE)})
        yield tracker


def read_rows(data: Path, split: str) -> list[Any]:
    """Return the rows of a split; `base.rows` has their types."""
    return list(read_jsonl(data / f"{split}.jsonl"))


def uncertainty_of(params: Params, confidence: float) -> Uncertainty:
    return Uncertainty(confidence, numpy_generator(params.seed, "bootstrap"))


def write_metrics(tracker: Tracker, metrics: dict[str, float], metrics_file: Path, tables: Path) -> None:
    """Write the metrics, empty the folder of tables, and tell the tracker."""
    write_json(metrics_file, metrics)
    fresh_folder(tables)
    tracker.log_metrics(metrics)


def track_tables(tracker: Tracker, results: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Store the file by which runs are compared, and the first rows of each table."""
    tracker.log_artifact(f"{RESULTS_FOLDER}/{results.name}", results)
    for name, rows in tables.items():
        tracker.log_artifact(f"{name}.json", rows[:MAX_TRACKED_ROWS])
