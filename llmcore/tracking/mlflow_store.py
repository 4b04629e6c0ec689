"""The MLflow side of tracking: how recorded events get into a store."""

import base64
import errno
import json
import os
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from llmcore.base.credentials import masked
from llmcore.base.errors import UserError, root_cause
from llmcore.base.project import project_root
from llmcore.config.stages import report_folder, stage_info
from llmcore.tracking.events import LINK_TAG, NOTE_TAG, READ_TAG, WROTE_TAG, Event
from llmcore.tracking.store_location import (
    STORE_VARIABLE,
    database_file,
    is_server,
    load_mlflow,
    set_environment,
    store_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

MAX_BATCH_METRICS = 1000  # of one log_batch call
MAX_BATCH_OTHERS = 100
MAX_DIGEST_CHARACTERS = 36  # of a dataset
MAX_REASON_CHARACTERS = 300  # of what a store raises
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")  # sending it again would not help
MARKS = ("training", "delivery")  # tags by which a run is found again: its training, or the process that recorded it
PROCESS_TAG = "process"  # that works on a run
ABANDONED_DAYS = 30  # of a run on another computer, where nobody here can see whether its process lives


class ForeignDatabaseError(Exception):
    """A database that has tables, but none of MLflow's."""


def open_store() -> "Store":
    """Return the open store, loaded before; raises whatever MLflow raises, which `store_errors` turns into a line."""
    load_mlflow()
    from mlflow import MlflowClient

    uri = store_uri()
    check_database(uri)
    return Store(MlflowClient(tracking_uri=uri, registry_uri=uri), local=not is_server(uri))


def open_existing_store() -> "Store":
    """Return the open store for reading; UserError with the reason if it cannot be opened. None is created."""
    file = database_file(store_uri())
    if file is not None and not file.exists():
        raise UserError(f"{file}: no runs yet; `dvc repro` makes some")
    with store_errors():
        return open_store()


def check_database(uri: str) -> None:
    """Connect to a database once, because MLflow would try for 100 seconds, and raise what that raises.

    ForeignDatabaseError for that of another program, which MLflow would fill with its own tables.
    """
    import sqlalchemy
    from mlflow.store.db.db_types import DATABASE_ENGINES
    from mlflow.store.db.utils import create_sqlalchemy_engine

    if uri.partition(":")[0].partition("+")[0] not in DATABASE_ENGINES:
        return
    if (file := database_file(uri)) and not file.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
    engine = create_sqlalchemy_engine(uri)  # type: ignore[no-untyped-call]
    try:
        tables = set(sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()
    if tables and "experiments" not in tables:
        raise ForeignDatabaseError(
            f"it is the database of another program, with the tables {', '.join(sorted(tables)[:3])}"
        )


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn what a store raises, while it is opened or used, into a UserError that names it and the true reason."""
    set_environment()  # before the first import
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ModuleNotFoundError as error:
        reason = f"its driver {error.name} is not installed"
        raise UserError(f"{masked(store_uri())}: {reason}; pip install it, or name another driver") from None
    except (MlflowException, SQLAlchemyError, CommandError, sqlite3.Error, OSError, ForeignDatabaseError) as error:
        reason = root_cause(error)[:MAX_REASON_CHARACTERS]
        if is_server(store_uri()):
            rule = f"the server fails or does not answer ({reason})"
            raise UserError(f"MLFLOW_TRACKING_URI: {rule}; start it or correct it") from None
        where = database_file(store_uri()) or store_uri()
        remedy = "correct it or MLFLOW_TRACKING_URI" if STORE_VARIABLE in os.environ else "mend it or move it away"
        raise UserError(f"{where}: MLflow's store cannot be used ({reason}); {remedy}") from None


Point = tuple[int, float | None]  # of a metric: step and value


def point_of(key: str, step: int, value: float) -> Point:
    """Return by what a point is known again: a final metric has the step of the first evaluation, and another value.

    A speed differs each time, so it is known by its step alone.
    """
    return (step, None if key.startswith("perf/") else value)


class Store:
    """An open MLflow store: `start` a run, `write` events to it. Writing an event twice leaves the store as once."""

    def __init__(self, client: "MlflowClient", local: bool):
        self.client = client
        self.local = local
        self._known_points: dict[str, dict[str, set[Point]]] = {}  # of continued runs: metric -> what is there

    def begin(self, header: Event) -> str:
        """Start a run that this process works on; those of this stage whose process was killed end as KILLED."""
        run_id = self.start(header)
        if run_id in self._known_points:
            self.client.update_run(run_id, status="RUNNING")
            self.client.set_tag(run_id, PROCESS_TAG, process_name())
        self._end_abandoned(header["stage"], besides=run_id)
        return run_id

    def start(self, header: Event) -> str:
        """Return the id of the run that `header` describes (`stage`, `name`, `time`, a mark).

        A run with this mark goes on, whether another process began its training or the answer to an earlier
        start was lost; else it is created.
        """
        experiment = self.experiment(stage_info(header["stage"]).experiment)
        marks = {mark: header[mark] for mark in MARKS if header.get(mark)}
        for mark, value in marks.items():
            for run in self.client.search_runs([experiment], f"tags.`{mark}` = '{value}'", max_results=1):
                self._known_points[run.info.run_id] = self._points_of(run)
                return str(run.info.run_id)
        tags = {"dvc.stage": header["stage"], PROCESS_TAG: process_name(), **marks}
        run = self.client.create_run(experiment, start_time=header["time"], run_name=header["name"], tags=tags)
        return str(run.info.run_id)

    def has(self, run_id: str | None) -> bool:
        """Return whether this store knows a run; what was begun in another store it does not."""
        from mlflow.exceptions import MlflowException

        try:
            return run_id is not None and bool(self.client.get_run(run_id))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def write(self, run_id: str, events: Iterable[Event]) -> list[str]:
        """Write `events` to a run; return a sentence for each that MLflow refuses for its content.

        Raises what MLflow raises when the store cannot be reached or written.
        """
        return self._write_batches(run_id, batches(events))

    def _write_batches(self, run_id: str, parts: Iterable[list[Event]]) -> list[str]:
        from mlflow.exceptions import MlflowException

        refused = []
        for batch in parts:
            try:
                self._write_batch(run_id, batch)
            except MlflowException as error:
                if error.error_code not in REFUSALS:
                    raise
                one_by_one = [[event] for event in batch] if len(batch) > 1 else []
                refused += [error.message] if not one_by_one else self._write_batches(run_id, one_by_one)
        return refused

    def _write_batch(self, run_id: str, events: list[Event]) -> None:
        """Write events of one kind."""
        from mlflow import entities

        kind, first = events[0]["do"], events[0]
        if kind == "metrics":
            new = self._new_points(run_id, events)
            metrics = [entities.Metric(e["key"], e["value"], e["time"], e["step"]) for e in new]
            self.client.log_batch(run_id, metrics=metrics)
        elif kind == "params":
            self.client.log_batch(run_id, params=[entities.Param(e["key"], e["value"]) for e in events])
        elif kind == "tags":
            self.client.log_batch(run_id, tags=[entities.RunTag(e["key"], e["value"]) for e in events])
        elif kind == "dataset":
            source = json.dumps({"uri": first["source"]})
            dataset = entities.Dataset(first["name"], first["digest"][:MAX_DIGEST_CHARACTERS], "local", source)
            self.client.log_inputs(run_id, datasets=[entities.DatasetInput(dataset, tags=[])])
        elif kind == "artifact":
            other = self.newest_run(**first["run"]) if "run" in first else None
            target = other.info.run_id if other else run_id
            self._write_artifact(target, first["name"], base64.b64decode(first["base64"]))
        elif kind == "table":
            self.client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps(first["tables"]))
        elif kind == "end":
            if first["status"] == "FINISHED" or self.client.get_run(run_id).info.status != "FINISHED":
                self._link_inputs(run_id)
                self.client.update_run(run_id, name=first["name"])
                self.client.set_terminated(run_id, first["status"], first["time"])
        else:
            raise AssertionError(kind)

    def _points_of(self, run: "Run") -> dict[str, set[Point]]:
        return {
            key: {
                point_of(key, found.step, found.value) for found in self.client.get_metric_history(run.info.run_id, key)
            }
            for key in run.data.metrics
        }

    def _new_points(self, run_id: str, events: list[Event]) -> list[Event]:
        """Leave out the points that a continued run has, in whatever process they were recorded."""
        known = self._known_points.get(run_id)
        if known is None:
            return events
        new = []
        for event in events:
            point = point_of(event["key"], event["step"], event["value"])
            if point not in known.setdefault(event["key"], set()):
                new.append(event)
                known[event["key"]].add(point)
        return new

    def _end_abandoned(self, stage: str, besides: str) -> None:
        """Mark runs of `stage` that were killed with -9: RUNNING, though their process is gone."""
        experiment = self.experiment(stage_info(stage).experiment)
        query = f"attributes.status = 'RUNNING' and tags.`dvc.stage` = '{stage}'"
        for run in self.client.search_runs([experiment], query):
            age_days = (time.time() - run.info.start_time / 1000) / 86400
            if run.info.run_id != besides and is_gone(run.data.tags.get(PROCESS_TAG, ""), age_days):
                self.client.set_terminated(run.info.run_id, "KILLED")

    def _write_artifact(self, run_id: str, name: str, data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, Path(name).name)
            file.write_bytes(data)
            parent = Path(name).parent.as_posix()
            self.client.log_artifact(run_id, str(file), None if parent == "." else parent)

    def _link_inputs(self, run_id: str) -> None:
        """Tag the run with the runs that wrote what it read, and link them under its description."""
        tags = self.client.get_run(run_id).data.tags
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        links: dict[str, str] = {}
        for tag, value in sorted(tags.items()):
            if tag.startswith(READ_TAG):
                query = f"tags.`{WROTE_TAG}{tag.removeprefix(READ_TAG)}` = '{value}'"
                for run in self.client.search_runs(experiments, query, max_results=1):
                    stage, found = run.data.tags["dvc.stage"], run.info
                    self.client.set_tag(run_id, LINK_TAG + report_folder(stage), found.run_id)  # MLflow refuses an @
                    links[stage] = f"[{stage}](#/experiments/{found.experiment_id}/runs/{found.run_id})"
        note = tags.get(NOTE_TAG, "")
        if links and "Builds on" not in note:
            self.client.set_tag(run_id, NOTE_TAG, f"{note}\n\nBuilds on {', '.join(links.values())}.".lstrip())

    def newest_run(self, stage: str, tag: str, value: str) -> "Run | None":
        """Return the newest run of `stage` whose `tag` has this value."""
        experiment = self.client.get_experiment_by_name(stage_info(stage).experiment)
        if experiment is None:
            return None
        query = f"tags.`{tag}` = '{value}' and tags.`dvc.stage` = '{stage}'"
        return next(iter(self.client.search_runs([experiment.experiment_id], query, max_results=1)), None)

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, creating it with a location that does not depend on the working folder."""
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            location = (project_root() / "mlartifacts" / name).as_uri() if self.local else None
            try:
                return str(self.client.create_experiment(name, artifact_location=location))
            except MlflowException:  # another process was first
                experiment = self.client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == "deleted":  # by hand in the UI; MLflow would refuse every new run
            self.client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)


def process_name() -> str:
    """Return a name of this process that no later one on this computer has: host, number, time of its start."""
    return f"{socket.gethostname()}/{os.getpid()}/{psutil.Process().create_time():.0f}"


def is_gone(name: str, age_days: float) -> bool:
    """Return whether the process of a `process_name` has ended; on another computer, whether its run is that old."""
    host, _, rest = name.partition("/")
    if host != socket.gethostname():
        return age_days > ABANDONED_DAYS
    number, _, begin = rest.partition("/")
    try:
        return bool(
            abs(psutil.Process(int(number)).create_time() - int(begin)) > 2
        )  # rounded, and clocks are corrected
    except psutil.NoSuchProcess:
        return True


def batches(events: Iterable[Event]) -> Iterable[list[Event]]:
    """Group metrics, params and tags into calls as large as MLflow takes; every other event stands alone.

    The end of a run comes last whatever the order of the rest.
    """
    events = list(events)
    for kind, limit in (("metrics", MAX_BATCH_METRICS), ("params", MAX_BATCH_OTHERS), ("tags", MAX_BATCH_OTHERS)):
        same = [event for event in events if event["do"] == kind]
        yield from (same[i : i + limit] for i in range(0, len(same), limit))
    others = [event for event in events if event["do"] not in ("metrics", "params", "tags")]
    yield from ([event] for event in sorted(others, key=lambda event: event["do"] == "end"))
