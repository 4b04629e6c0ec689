"""The MLflow side of tracking: where the store is, how it comes to be, and how recorded events get into it.

An event is a small JSON object (`llmcore.tracking` makes them). Delivering the same event twice
leaves the store as once, so a delivery that broke off is simply repeated. MLflow is imported by
`load` only: the import costs more than a second.
"""

import base64
import json
import os
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from llmcore.base.git import changed_files, git, new_code
from llmcore.base.process import prepare
from llmcore.base.project import project_root

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Event = dict[str, Any]

ENVIRONMENT = {
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # no word about migrations, no traceback of what is told in a line anyway
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the courier tries again itself, and holds no stage for that
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with its password
}
BATCH_METRICS, BATCH_OTHERS = 1000, 100  # limits of one log_batch call
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")  # sending it again would not help
DIGEST_CHARACTERS = 36  # limit of a dataset's digest
MARKS = ("training", "delivery")  # tags by which a run is found again: what it trains, or who recorded it
PROCESS_TAG = "process"  # who works on a run
ABANDONED_DAYS = 30  # of a run on another computer, where nobody here can see whether its process lives
NOTE_TAG, LINK_TAG = "mlflow.note.content", "run."  # its description, in Markdown; the run of a stage that it builds on
TAG_CHARACTERS, BLOB_CHARACTERS = 5000, 12  # limit of a tag in older servers; enough to find a blob by
CHANGED_TAG = "git.changed"  # files that differ from the commit, new code among them
READ_TAG, WROTE_TAG = "in.", "out."  # before a path: DVC's hash of what the stage read and wrote there


def store_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, else the sqlite file in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(project_root() / "mlflow.db")


def sqlite_uri(file: Path) -> str:
    """Return the URI of a sqlite file; a percent sign in its path is the one character that needs quoting."""
    return f"sqlite:///{str(file).replace('%', '%25')}"


def database_file(uri: str) -> Path | None:
    """Return the file of a sqlite `uri`, None for every other kind of store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0].replace("%25", "%"))


def experiment_name(stage: str) -> str:
    """Return the experiment of a stage: `download@text -> data`, `track -> pipeline`, `load_gpt2 -> load-gpt2`."""
    name = stage.partition("@")[0]
    if name.startswith(("download", "prepare_")) or name in ("tokenize", "sample"):
        return "data"
    return "pipeline" if name == "track" else name.replace("_", "-")


def load() -> None:
    """Import MLflow and create a missing sqlite store: work on this computer, which ends however busy it is."""
    prepare()  # no telemetry
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401

    if file := database_file(store_uri()):
        create_database(file)


def open_store() -> "Store":
    """Return the open store, loaded before; raises whatever MLflow raises."""
    load()
    from mlflow import MlflowClient

    uri = store_uri()
    if file := database_file(uri):
        with closing(sqlite3.connect(file)) as connection:  # says at once what MLflow tries for 100 seconds
            connection.execute("PRAGMA schema_version")
    return Store(MlflowClient(tracking_uri=uri, registry_uri=uri), local=not uri.startswith(("http", "databricks")))


def create_database(file: Path) -> None:
    """Create MLflow's tables in `file` unless it exists.

    They are made in a temporary file under a lock: two first starts at once, or a killed one, would
    otherwise leave a half-migrated database that never opens again.
    """
    if file.exists():
        return
    from filelock import FileLock
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with FileLock(f"{file}.lock"):
        if file.exists():
            return
        temporary = Path(f"{file}.new")
        temporary.unlink(missing_ok=True)
        artifacts = project_root() / "mlartifacts"
        SqlAlchemyStore(sqlite_uri(temporary), artifacts.as_uri()).engine.dispose()
        os.replace(temporary, file)


class Store:
    """An open MLflow store: `start` a run, `deliver` events to it."""

    def __init__(self, client: "MlflowClient", local: bool):
        self.client = client
        self.local = local
        self._known_steps: dict[str, dict[str, set[int]]] = {}  # of continued runs: metric -> steps that are there

    def begin(self, header: Event) -> str:
        """Start a run that this process works on; those of this stage whose process was killed end as KILLED."""
        run_id = self.start(header)
        if run_id in self._known_steps:
            self.client.update_run(run_id, status="RUNNING")
            self.client.set_tag(run_id, PROCESS_TAG, process_name())
        self._end_abandoned(header["stage"], besides=run_id)
        return run_id

    def start(self, header: Event) -> str:
        """Return the id of the run that `header` describes (`stage`, `name`, `time`, a mark).

        A run with this mark goes on, whether another process began its training or the answer to an earlier
        start was lost; else it is created.
        """
        experiment = self.experiment(experiment_name(header["stage"]))
        marks = {mark: header[mark] for mark in MARKS if header.get(mark)}
        for mark, value in marks.items():
            for run in self.client.search_runs([experiment], f"tags.`{mark}` = '{value}'", max_results=1):
                self._known_steps[run.info.run_id] = self._steps_of(run)
                return run.info.run_id
        tags = {"dvc.stage": header["stage"], PROCESS_TAG: process_name(), **marks}
        run = self.client.create_run(experiment, start_time=header["time"], run_name=header["name"], tags=tags)
        return run.info.run_id

    def has(self, run_id: str | None) -> bool:
        """Return whether this store knows a run; what was begun in another store it does not."""
        from mlflow.exceptions import MlflowException

        try:
            return run_id is not None and bool(self.client.get_run(run_id))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def deliver(self, run_id: str, events: Iterable[Event]) -> list[str]:
        """Write `events` to a run; return a sentence for each that MLflow refuses for its content.

        Raises what MLflow raises when the store cannot be reached or written.
        """
        return self._deliver(run_id, batches(events))

    def _deliver(self, run_id: str, parts: Iterable[list[Event]]) -> list[str]:
        from mlflow.exceptions import MlflowException

        refused = []
        for batch in parts:
            try:
                self._write(run_id, batch)
            except MlflowException as error:
                if error.error_code not in REFUSALS:
                    raise
                one_by_one = [[event] for event in batch] if len(batch) > 1 else []
                refused += [error.message] if not one_by_one else self._deliver(run_id, one_by_one)
        return refused

    def _write(self, run_id: str, events: list[Event]) -> None:
        """Write events of one kind."""
        from mlflow import entities

        kind, first = events[0]["do"], events[0]
        if kind == "metrics":
            new = self._new_steps(run_id, events)
            metrics = [entities.Metric(e["key"], e["value"], e["time"], e["step"]) for e in new]
            self.client.log_batch(run_id, metrics=metrics)
        elif kind == "params":
            self.client.log_batch(run_id, params=[entities.Param(e["key"], e["value"]) for e in events])
        elif kind == "tags":
            self.client.log_batch(run_id, tags=[entities.RunTag(e["key"], e["value"]) for e in events])
        elif kind == "dataset":
            source = json.dumps({"uri": first["source"]})
            dataset = entities.Dataset(first["name"], first["digest"][:DIGEST_CHARACTERS], "local", source)
            self.client.log_inputs(run_id, datasets=[entities.DatasetInput(dataset, tags=[])])
        elif kind == "artifact":
            self._write_artifact(run_id, first["name"], base64.b64decode(first["base64"]))
        elif kind == "table":
            self.client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps(first["tables"]))
        elif kind == "link":
            self._link(run_id, **{key: first[key] for key in ("stage", "tag", "value")})
        elif kind == "end":
            if first["status"] == "FINISHED" or self.client.get_run(run_id).info.status != "FINISHED":
                self._link_in_words(run_id)
                self.client.update_run(run_id, name=first["name"])
                self.client.set_terminated(run_id, first["status"], first["time"])
        else:
            raise AssertionError(kind)

    def _steps_of(self, run: "Run") -> dict[str, set[int]]:
        keys = run.data.metrics
        return {key: {point.step for point in self.client.get_metric_history(run.info.run_id, key)} for key in keys}

    def _new_steps(self, run_id: str, events: list[Event]) -> list[Event]:
        """Leave out the steps that a continued run has, in whatever process they were recorded."""
        known = self._known_steps.get(run_id)
        if known is None:
            return events
        new = [event for event in events if event["step"] not in known.get(event["key"], ())]
        for event in new:
            known.setdefault(event["key"], set()).add(event["step"])
        return new

    def _end_abandoned(self, stage: str, besides: str) -> None:
        """Mark runs of `stage` that were killed with -9: RUNNING, though their process is gone."""
        experiment = self.experiment(experiment_name(stage))
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

    def _link(self, run_id: str, stage: str, tag: str, value: str) -> None:
        """Tag the run with the id of the newest run of `stage` whose `tag` has this value."""
        if run := self.newest_run(stage, tag, value):
            self.client.set_tag(run_id, LINK_TAG + stage, run.info.run_id)

    def _link_in_words(self, run_id: str) -> None:
        """Put links to the runs that this one builds on under its description, where a person can follow them."""
        tags = self.client.get_run(run_id).data.tags
        note = tags.get(NOTE_TAG, "")
        links = []
        for tag, linked in sorted(tags.items()):
            if tag.startswith(LINK_TAG) and linked not in note:
                experiment = self.client.get_run(linked).info.experiment_id
                links.append(f"[{tag.removeprefix(LINK_TAG)}](#/experiments/{experiment}/runs/{linked})")
        if links:
            self.client.set_tag(run_id, NOTE_TAG, f"{note}\n\nBuilds on {', '.join(links)}.".lstrip())

    def newest_run(self, stage: str, tag: str, value: str) -> "Run | None":
        """Return the newest run of `stage` whose `tag` has this value."""
        experiment = self.client.get_experiment_by_name(experiment_name(stage))
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
                return self.client.create_experiment(name, artifact_location=location)
            except MlflowException:  # another process was first
                experiment = self.client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == "deleted":  # by hand in the UI; MLflow would refuse every new run
            self.client.restore_experiment(experiment.experiment_id)
        return experiment.experiment_id


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
        return abs(psutil.Process(int(number)).create_time() - int(begin)) > 2  # rounded, and clocks are corrected
    except psutil.NoSuchProcess:
        return True


def batches(events: Iterable[Event]) -> Iterable[list[Event]]:
    """Group metrics, params and tags into calls as large as MLflow takes; every other event stands alone.

    The end of a run comes last whatever the order of the rest.
    """
    events = list(events)
    for kind, limit in (("metrics", BATCH_METRICS), ("params", BATCH_OTHERS), ("tags", BATCH_OTHERS)):
        same = [event for event in events if event["do"] == kind]
        yield from (same[i : i + limit] for i in range(0, len(same), limit))
    others = [event for event in events if event["do"] not in ("metrics", "params", "tags")]
    yield from ([event] for event in sorted(others, key=lambda event: event["do"] == "end"))


def git_tags(folder: str | Path = ".") -> dict[str, str]:
    """Return the commit and what differs from it, names and git's hashes; nothing outside a git repository."""
    try:
        commit, tracked, new = git(folder, "rev-parse", "HEAD"), changed_files(folder), new_code(folder)
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: names that are no text
        return {}
    changed = changed_tag(tracked | new) if tracked or new else "{}"
    return {"mlflow.source.git.commit": commit, "git.dirty": str(bool(tracked)).lower(), CHANGED_TAG: changed}


def changed_tag(changed: dict[str, str]) -> str:
    """Return files as JSON, path -> shortened blob; those that a tag has no room for are counted under `...`."""
    shown = {path: blob[:BLOB_CHARACTERS] for path, blob in changed.items()}
    left_out = 0
    while len(text := json.dumps(shown | ({"...": str(left_out)} if left_out else {}))) > TAG_CHARACTERS:
        shown.popitem()
        left_out += 1
    return text
