"""Results of evaluations, on disk or in an MLflow run."""

import re
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.tracking.mlflow_store import open_existing_store, store_errors

RESULTS_FOLDER = "results"  # artifacts of an evaluation's run by which runs are compared
RUN_ID = re.compile(r"[0-9a-f]{32}")


def results_of(name: str, scratch: Path) -> Path:
    """Return where the results of `name` lie: a path as it is, a run's artifacts fetched into `scratch`."""
    if not RUN_ID.fullmatch(name) or Path(name).exists():
        return Path(name)
    store = open_existing_store()
    with store_errors():
        if not store.has(name):
            raise UserError(f"{name}: no such run in the store; copy the id from MLflow")
        if not store.client.list_artifacts(name, RESULTS_FOLDER):
            raise UserError(f"{name}: the run holds no {RESULTS_FOLDER}/; give a run of an evaluate_* stage")
        (scratch / name).mkdir(parents=True, exist_ok=True)
        return Path(store.client.download_artifacts(name, RESULTS_FOLDER, str(scratch / name)))
