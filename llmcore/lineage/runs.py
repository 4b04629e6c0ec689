"""Runs for lineage, and the MLflow store searched for them: by id, by name, by the hashes of their outputs."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcore.base.errors import UserError
from llmcore.tracking.events import CHANGED_TAG, READ_TAG, WROTE_TAG
from llmcore.tracking.mlflow_store import open_existing_store, store_errors
from llmcore.tracking.store_location import database_file, store_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

ID_PREFIX = re.compile(r"[0-9a-f]{6,32}")
SHOWN_ID_CHARACTERS = 8
MAX_FOUND_RUNS = 100  # per search


@dataclass(frozen=True)
class Run:
    """A run: its params, its tags, and DVC's hashes of its inputs and outputs (missing in runs of early versions)."""

    id: str
    name: str
    status: str
    started: datetime
    seconds: float | None
    params: dict[str, str]
    tags: dict[str, str]
    datasets: tuple[tuple[str, str, str], ...]  # name, source, digest

    @property
    def stage(self) -> str:
        """The stage that the run is of, "" if it is of none."""
        return self.tags.get("dvc.stage", "")

    @property
    def commit(self) -> str | None:
        """The commit that the run was made from, None outside a git repository."""
        return self.tags.get("mlflow.source.git.commit")

    @property
    def changed(self) -> dict[str, str] | None:
        """The files that differed from the commit, with a prefix of their blob names; None if not recorded."""
        recorded = self.tags.get(CHANGED_TAG)
        return None if recorded is None else json.loads(recorded)

    @property
    def read(self) -> dict[str, str]:
        """DVC's hashes of the inputs, by path."""
        return self._hashes(READ_TAG)

    @property
    def wrote(self) -> dict[str, str]:
        """DVC's hashes of the outputs, by path."""
        return self._hashes(WROTE_TAG)

    def title(self) -> str:
        """Return name, short id and start: `lr-0.004 (1a2b3c4d), 2030-01-02 12:00`."""
        return f"{self.name} ({self.id[:SHOWN_ID_CHARACTERS]}), {self.started:%Y-%m-%d %H:%M}"

    def _hashes(self, tag: str) -> dict[str, str]:
        return {key.removeprefix(tag): value for key, value in self.tags.items() if key.startswith(tag)}


class Runs:
    """The runs of an open store, read only; the newest run comes first."""

    def __init__(self, client: "MlflowClient"):
        self._client = client
        self._experiments = [experiment.experiment_id for experiment in client.search_experiments()]

    def find(self, text: str) -> list[Run]:
        """Return the runs whose id begins with `text`, else the runs with this name."""
        if ID_PREFIX.fullmatch(text) and (found := self._search(f"attributes.run_id LIKE '{text}%'")):
            return found
        quoted = text.replace("'", "")
        return self._search(f"attributes.run_name = '{quoted}'") if quoted == text else []

    def writers(self, outs: Mapping[str, str]) -> list[Run]:
        """Return the runs that wrote all these paths with these hashes; none if `outs` is empty."""
        wanted = [f"tags.`{WROTE_TAG}{path}` = '{md5}'" for path, md5 in outs.items()]
        return self._search(" and ".join(wanted)) if wanted else []

    def makers_of_weights(self, stage: str, sha256: str) -> list[Run]:
        """Return the runs of a stage whose model has weights with this hash, the only one that early runs recorded."""
        return self._search(f"tags.`model_sha256` = '{sha256}' and tags.`dvc.stage` = '{stage}'")

    def newest_of(self, stage: str) -> Run | None:
        """Return the newest finished run of a stage."""
        found = self._search(f"tags.`dvc.stage` = '{stage}' and attributes.status = 'FINISHED'")
        return found[0] if found else None

    def params_file(self, run: Run, folder: Path) -> bytes | None:
        """Return the params.yaml stored with a run, downloaded into `folder`; None if there is none."""
        with store_errors():
            if not any(file.path == "params.yaml" for file in self._client.list_artifacts(run.id)):
                return None
            return Path(self._client.download_artifacts(run.id, "params.yaml", str(folder))).read_bytes()

    def _search(self, query: str) -> list[Run]:
        if not self._experiments:
            return []
        order = ["attributes.start_time DESC"]
        with store_errors():
            found = self._client.search_runs(self._experiments, query, max_results=MAX_FOUND_RUNS, order_by=order)
        return [_read(run) for run in found]


def open_runs() -> Runs | str:
    """Open the store for reading; return the reason if it cannot be opened. A missing store is not created."""
    file = database_file(store_uri())
    if file is not None and not file.exists():
        return f"no runs: {file} does not exist yet"
    try:
        store = open_existing_store()
        with store_errors():
            return Runs(store.client)
    except UserError as error:
        return f"no runs: {error}"


def one_run(runs: Runs, text: str) -> tuple[Run, str | None]:
    """Return the run with the id or name `text`, and a note if it is the newest of several with that name.

    UserError if there is no such run, or if several ids begin with `text`.
    """
    found = runs.find(text)
    if not found:
        raise UserError(
            f"{text}: must be a run's id, six of its first characters or more, its name, or a path that a stage of "
            "dvc.lock makes; copy one from MLflow or dvc.lock"
        )
    if len(found) == 1:
        return found[0], None
    if ID_PREFIX.fullmatch(text) and found[0].id.startswith(text):
        raise UserError(f"{text}: must begin the id of one run, got {_titles(found)}; give more characters")
    return found[0], f"the newest of {len(found)} runs named {text}; the others by id: {_ids(found[1:])}"


def _titles(runs: Iterable[Run]) -> str:
    return ", ".join(run.id for run in runs)


def _ids(runs: list[Run]) -> str:
    shown = [run.id[:SHOWN_ID_CHARACTERS] for run in runs[:5]]
    return ", ".join(shown + ["..."] * (len(runs) > 5))


def _read(run: Any) -> Run:
    ended = run.info.end_time
    datasets = tuple(
        (entry.dataset.name, _source(entry.dataset.source), entry.dataset.digest) for entry in run.inputs.dataset_inputs
    )
    return Run(
        id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        started=datetime.fromtimestamp(run.info.start_time / 1000),
        seconds=None if ended is None else (ended - run.info.start_time) / 1000,
        params=dict(run.data.params),
        tags=dict(run.data.tags),
        datasets=datasets,
    )


def _source(text: str) -> str:
    try:
        return str(json.loads(text).get("uri", text))
    except (ValueError, AttributeError):
        return text
