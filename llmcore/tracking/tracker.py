"""Tracking: what a stage tells about its run, recorded here and delivered to MLflow in the background.

    with tracking.run("pretrain", params, ["seed", "model", "pretrain", "compute"]) as tracker:
        tracker.log_metrics({"loss/train": 2.3}, step=10)

Recording only appends to a list. A thread imports MLflow, opens the store and delivers every few
seconds, so the work waits for none of it except, at the end and not for long, for what is still on its
way. Whatever goes wrong there is said once on stderr and changes nothing: the thread tries again from
time to time, and events that were not delivered at the end wait as JSON lines in `.mlflow-spool/` for
the next run that reaches the store.
"""

import base64
import json
import math
import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from llmcore.base.credentials import masked
from llmcore.base.errors import UserError
from llmcore.base.files import read_yaml, write_jsonl
from llmcore.base.containers import flat
from llmcore.base.project import project_root
from llmcore.dvc.files import STAGES_FILE, hash_of, stage_paths
from llmcore.tracking import mlflow_store
from llmcore.tracking.descriptions import sentence
from llmcore.tracking.mlflow_store import NOTE_TAG, READ_TAG, WROTE_TAG, Event, Store
from llmcore.tracking.run_name import changed_params, run_name

if TYPE_CHECKING:
    from llmcore.config.params import Params

FLUSH_SECONDS = 3.0
RETRY_SECONDS = 30.0  # between tries to reach a store that could not be reached
LOAD_SECONDS = 120.0  # that the end of a run waits for MLflow to be loaded; a busy machine needs long for that
PATIENCE_SECONDS = 30.0  # that it waits for the store
HURRY_SECONDS = 5.0  # that it waits when it was told to stop; `llmcore.parent` kills after 10
PLAIN_PATH = re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII)  # others cannot be part of a tag's name

Arguments = ParamSpec("Arguments")


@contextmanager
def run(
    stage: str,
    params: "Params",
    sections: list[str],
    tags: dict[str, str] | None = None,
    note: str | None = None,
    training: str | None = None,
) -> Iterator["Tracker"]:
    """Track the body as one MLflow run of `stage`.

    `sections` are the dotted names of what the stage reads of `params` ("pretrain", "sources.text");
    `note` is the run's description, by default a sentence from its final metrics. `training` is the id of a
    training that may have begun in an earlier process: its run goes on, and what is recorded for a step that it
    has is left out.
    The run ends FINISHED; FAILED when the body raises;
    KILLED on Ctrl-C, SIGTERM or SystemExit; the exception goes on. A training says what tracking cost it.
    With `runtime.tracking: false` or LLMCORE_TRACKING=off nothing is recorded and MLflow is not imported.
    """
    if not params.runtime.tracking or os.environ.get("LLMCORE_TRACKING") == "off":
        yield Tracker(stage, record=lambda event: None)
        return
    courier = Courier(stage, training, facts=lambda: mlflow_store.git_tags() | _hashes(stage, params, READ_TAG))
    tracker = Tracker(stage, record=courier.record)
    leaves = flatten(params, sections)
    tracker.log_params(leaves)
    tracker.changes = changed_params(leaves)
    tracker.set_tags(_own_tags(stage) | (tags or {}))
    if Path("params.yaml").is_file():
        tracker.log_artifact("params.yaml")
    courier.start(tracker.name())
    status = "FAILED"
    with _sigterm_exits():
        try:
            yield tracker
            tracker.set_tags(_hashes(stage, params, WROTE_TAG))
            status = "FINISHED"
        except (KeyboardInterrupt, SystemExit):
            status = "KILLED"
            raise
        finally:
            if note := note or sentence(stage, tracker.finals):
                tracker.set_tags({NOTE_TAG: note})
            courier.finish(status, tracker.name())
            if training:
                print(f"{stage}: {courier.cost(tracker.seconds)}", file=sys.stderr)


def _counted(
    method: Callable[Concatenate["Tracker", Arguments], None],
) -> Callable[Concatenate["Tracker", Arguments], None]:
    """Let a method of the tracker count the time that its caller spends in it."""

    @wraps(method)
    def counted(self: "Tracker", *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        begin = time.perf_counter()
        method(self, *args, **kwargs)
        self.seconds += time.perf_counter() - begin

    return counted


class Tracker:
    """What a stage can say about its run. No method waits for MLflow or fails because of it.

    `seconds` is the time that all calls together have taken from the stage.
    """

    def __init__(self, stage: str, record: Callable[[Event], None]):
        self.stage = stage
        self.seconds = 0.0
        self._record = record
        self.finals: dict[str, float] = {}  # what was recorded without a step
        self.changes: dict[str, Any] = {}  # params that differ from the last commit
        self._identity: dict[str, str] = {}
        self._tables: list[dict[str, str]] = []

    @_counted
    def log_metrics(self, values: dict[str, float], step: int | None = None) -> None:
        """Record numbers at `step` (0 when None) with the present time; non-finite ones are left out.

        The part of a key before the first `/` is the section that MLflow draws it in: `loss/train`.
        """
        now = _now_ms()
        if step is None:
            self.finals |= values
        for key, value in values.items():
            if math.isfinite(number := float(value)):
                self._record({"do": "metrics", "key": key, "value": number, "time": now, "step": step or 0})

    @_counted
    def log_params(self, values: dict[str, Any]) -> None:
        """Record settings, one value each for the whole run; lists are written as JSON."""
        for key, value in values.items():
            text = value if isinstance(value, str) else json.dumps(value)
            self._identity[key] = text
            self._record({"do": "params", "key": key, "value": text})

    @_counted
    def set_tags(self, values: dict[str, str]) -> None:
        """Record facts that may change or be searched for: `model_sha256`."""
        for key, value in values.items():
            self._record({"do": "tags", "key": key, "value": str(value)})

    @_counted
    def log_dataset(self, name: str, source: str, digest: str) -> None:
        """Record an input: a short name, where it lies or comes from, and the hash of its content."""
        self._identity[f"dataset {name}"] = digest
        self._record({"do": "dataset", "name": name, "source": source, "digest": digest})

    @_counted
    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Copy a small file (a figure, a table) as it is now into `folder` of the run's artifacts."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            _warn(f"artifact left out ({error})")
            return
        self._log_bytes("/".join(filter(None, (folder, Path(path).name))), data)

    @_counted
    def log_text(self, text: str, name: str) -> None:
        """Store `text` as the artifact `name`, e.g. `samples/step-000100.txt`."""
        self._log_bytes(name, text.encode())

    @_counted
    def log_table(self, rows: list[dict[str, Any]], name: str) -> None:
        """Store rows as the artifact `name` (`.json`), which MLflow shows as a table."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = {"columns": columns, "data": [[row.get(column) for column in columns] for row in rows]}
        self._log_bytes(name, json.dumps(table, ensure_ascii=False, default=str).encode())
        self._tables.append({"path": name, "type": "table"})
        self._record({"do": "table", "tables": list(self._tables)})

    @_counted
    def link_run(self, stage: str, tag: str, value: str) -> None:
        """Tag this run `run.<stage>` with the id of the newest run of `stage` whose `tag` is `value`."""
        self._record({"do": "link", "stage": stage, "tag": tag, "value": value})

    def name(self) -> str:
        """Return the run's name: DVC's experiment, or the stage, a hash of its params and inputs, and changes."""
        return run_name(self.stage, self._identity, self.changes)

    def _log_bytes(self, name: str, data: bytes) -> None:
        self._record({"do": "artifact", "name": name, "base64": base64.b64encode(data).decode()})


class Courier:
    """Takes events from the stage and delivers them from a thread of its own; the end spools what is left."""

    def __init__(self, stage: str, training: str | None, facts: Callable[[], dict[str, str]]):
        self.facts = facts  # tags that take a moment to find out
        # one or the other tells the store that a run is there already, though its answer did not arrive
        mark: Event = {"training": training} if training else {"delivery": uuid.uuid4().hex}
        self.header: Event = {"do": "start", "stage": stage, "time": _now_ms(), **mark}
        self.pending: list[Event] = []
        self.loaded, self.over = threading.Event(), threading.Event()
        self.problem = "the tracker is too slow"
        self.thread = threading.Thread(target=self._work, name="mlflow-courier", daemon=True)
        self.thread_seconds, self.waited_seconds, self.begin = 0.0, 0.0, time.perf_counter()

    def record(self, event: Event) -> None:
        self.pending.append(event)

    def start(self, name: str) -> None:
        self.header["name"] = name
        self.thread.start()

    def finish(self, status: str, name: str) -> None:
        """Record the end and wait until everything is delivered or the patience is over; the rest is spooled.

        Ctrl-C and SIGTERM end the waiting.
        """
        begin = time.perf_counter()
        try:
            self.record({"do": "end", "status": status, "name": name, "time": _now_ms()})
            self.over.set()
            if status != "KILLED":
                self.loaded.wait(LOAD_SECONDS)
            self.thread.join(HURRY_SECONDS if status == "KILLED" else PATIENCE_SECONDS)
        finally:
            if self.pending:
                self._spool()
            self.waited_seconds = time.perf_counter() - begin

    def cost(self, recording_seconds: float) -> str:
        """Say how long the work waited or may have shared its processor, at most: what is computed while it waits
        counts twice, and so does what the thread computes on a core that nobody else wants."""
        whole = time.perf_counter() - self.begin
        seconds = recording_seconds + self.waited_seconds + self.thread_seconds
        return f"tracking took {seconds:.1f} s of {whole:.0f} s ({seconds / whole:.1%})"

    def _work(self) -> None:
        while True:
            try:
                self._tell_facts()
                self._deliver_all()
                return
            except Exception as error:  # a tracker never stops the work, whatever MLflow or the disk do
                self.problem = _line(error)
            finally:
                self.loaded.set()
                self.thread_seconds = time.thread_time()
            if self.over.is_set():
                return
            _warn(f"records wait, to be sent at the end or by a later run ({self.problem})")
            self.over.wait(RETRY_SECONDS)

    def _tell_facts(self) -> None:
        """Record them, once."""
        for key, value in self.facts().items():
            self.record({"do": "tags", "key": key, "value": value})
        self.facts = dict

    def _deliver_all(self) -> None:
        mlflow_store.load()
        self.loaded.set()
        store = mlflow_store.open_store()
        self.header["run_id"] = store.begin(self.header)
        send_spool(store)
        while True:
            last = self.over.is_set()  # read before the events: the end is recorded before it is set
            count = len(self.pending)
            for refusal in store.deliver(self.header["run_id"], self.pending[:count]):
                _warn(f"MLflow refused a record ({_line(refusal)})")
            del self.pending[:count]  # only now: what a broken delivery leaves is delivered again
            if last:
                return
            self.thread_seconds = time.thread_time()
            self.over.wait(FLUSH_SECONDS)

    def _spool(self) -> None:
        _warn(f"this run's remaining records are kept in {spool_folder()} and sent later ({self.problem})")
        try:
            write_jsonl(spool_folder() / f"{uuid.uuid4().hex}.jsonl", [self.header, *self.pending])
        except Exception as error:  # the disk is full, too
            print(f"tracking: records lost ({_line(error)})", file=sys.stderr)


def spool_folder() -> Path:
    """Return the folder of undelivered runs: a file of JSON lines each, the run's header first."""
    return project_root() / ".mlflow-spool"


def send_spool(store: Store) -> None:
    """Deliver what earlier runs left in the spool; a file goes away only when all of it has arrived."""
    from filelock import FileLock, Timeout

    if not any(spool_folder().glob("*.jsonl")):
        return
    try:
        with FileLock(spool_folder() / "lock", timeout=0):
            for file in sorted(spool_folder().glob("*.jsonl")):
                _send_file(store, file)
    except Timeout:  # another run is sending them
        return
    except Exception as error:  # no reason to spool this run's own records too
        _warn(f"records of earlier runs stay in {spool_folder()} ({_line(error)})")


def _send_file(store: Store, file: Path) -> None:
    """Deliver a spooled run; its file shrinks by each part that has arrived, so that the slowest store gets it all."""
    try:
        header, *events = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    except ValueError as error:  # damaged; the other files can do without it
        _warn(f"{file} cannot be read and stays ({_line(error)})")
        return
    if not store.has(header.get("run_id")):
        header["run_id"] = store.start(header)
    batches = list(mlflow_store.batches(events))
    for number, batch in enumerate(batches):
        write_jsonl(file, [header, *chain.from_iterable(batches[number:])])
        store.deliver(header["run_id"], batch)
    file.unlink()


def flatten(params: "Params", sections: list[str]) -> dict[str, Any]:
    """Return the values of the named sections under dotted keys: `{"pretrain.lr": 0.003}`."""
    leaves: dict[str, Any] = {}
    whole = params.model_dump(mode="json")
    for section in sections:
        value = whole
        for part in section.split("."):
            value = value[part]
        leaves |= flat(value, section)
    return leaves


def _own_tags(stage: str) -> dict[str, str]:
    tags = {"dvc.stage": stage, "mlflow.source.name": stage, "mlflow.source.type": "LOCAL"}
    variables = {"dvc.exp_name": "DVC_EXP_NAME", "dvc.exp_baseline_rev": "DVC_EXP_BASELINE_REV"}
    return tags | {tag: os.environ[name] for tag, name in variables.items() if os.environ.get(name)}


def _hashes(stage: str, params: "Params", tag: str) -> dict[str, str]:
    """Return DVC's hashes of what the stage reads or has written, by which `llmcore lineage` joins runs."""
    try:
        stages = (read_yaml(STAGES_FILE) or {}).get("stages", {}) if STAGES_FILE.is_file() else {}
        read, wrote = stage_paths(stage, stages, params.model_dump(mode="json"))
        found = {path: hash_of(Path(path)) for path in (read if tag == READ_TAG else wrote)}
    except (UserError, OSError) as error:
        _warn(f"no hashes of inputs and outputs ({_line(error)})")
        return {}
    return {f"{tag}{path}": value for path, value in found.items() if value and PLAIN_PATH.fullmatch(path)}


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


_warned = False


def _warn(sentence: str) -> None:
    """Say the first thing that goes wrong, once in a process."""
    global _warned
    if not _warned:
        _warned = True
        from tqdm import tqdm

        tqdm.write(f"tracking: {sentence}", file=sys.stderr)  # above a progress bar that may be there


def _line(error: object) -> str:
    text = masked(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
