"""Tracking: what a stage tells about its run, recorded here and delivered to MLflow in the background.

    with tracking.run("pretrain", params, ["seed", "model", "pretrain", "compute"]) as tracker:
        tracker.log_metrics({"loss/train": 2.3}, step=10)

Recording only appends to a list. A thread imports MLflow, opens the store and delivers every few
seconds, so the work waits for none of it except, at the end, for what is still on its way.
Whatever goes wrong there is said once on stderr and changes nothing: events that were not delivered
wait as JSON lines in `.mlflow-spool/` for the next run that reaches the store.
"""

import base64
import hashlib
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcore import mlflow_store
from llmcore.dvc_files import STAGES_FILE, hash_of, stage_paths
from llmcore.errors import UserError
from llmcore.files import write_jsonl
from llmcore.mlflow_store import READ_TAG, WROTE_TAG, Event, Store
from llmcore.nested import flat
from llmcore.params import read_yaml
from llmcore.project import project_root

if TYPE_CHECKING:
    from llmcore.params import Params

FLUSH_SECONDS = 3.0
PLAIN_PATH = re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII)  # others cannot be part of a tag's name


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
    `note` is a sentence for the run's description. `training` is the id of a training that may have begun in
    an earlier process: its run goes on, and what is recorded for a step that it has is left out.
    The run ends FINISHED; FAILED when the body raises;
    KILLED on Ctrl-C, SIGTERM or SystemExit; the exception goes on. With `runtime.tracking: false` or
    LLMCORE_TRACKING=off nothing is recorded and MLflow is not imported.
    """
    if not params.runtime.tracking or os.environ.get("LLMCORE_TRACKING") == "off":
        yield Tracker(stage, record=lambda event: None)
        return
    courier = Courier(stage, training, facts=lambda: mlflow_store.git_tags() | _hashes(stage, params, READ_TAG))
    tracker = Tracker(stage, record=courier.record)
    tracker.log_params(flatten(params, sections))
    tracker.set_tags(_own_tags(stage) | ({"mlflow.note.content": note} if note else {}) | (tags or {}))
    if Path("params.yaml").is_file():
        tracker.log_artifact("params.yaml")
    courier.start(tracker.name())
    status = "FAILED"
    try:
        with _sigterm_exits():
            yield tracker
        tracker.set_tags(_hashes(stage, params, WROTE_TAG))
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        courier.finish(status, tracker.name())


class Tracker:
    """What a stage can say about its run. No method waits for MLflow or fails because of it."""

    def __init__(self, stage: str, record: Callable[[Event], None]):
        self.stage = stage
        self._record = record
        self._identity: dict[str, str] = {}
        self._tables: list[dict[str, str]] = []

    def log_metrics(self, values: dict[str, float], step: int | None = None) -> None:
        """Record numbers at `step` (0 when None) with the present time; non-finite ones are left out.

        The part of a key before the first `/` is the section that MLflow draws it in: `loss/train`.
        """
        now = _now_ms()
        for key, value in values.items():
            if math.isfinite(number := float(value)):
                self._record({"do": "metrics", "key": key, "value": number, "time": now, "step": step or 0})

    def log_params(self, values: dict[str, Any]) -> None:
        """Record settings, one value each for the whole run; lists are written as JSON."""
        for key, value in values.items():
            text = value if isinstance(value, str) else json.dumps(value)
            self._identity[key] = text
            self._record({"do": "params", "key": key, "value": text})

    def set_tags(self, values: dict[str, str]) -> None:
        """Record facts that may change or be searched for: `model_sha256`."""
        for key, value in values.items():
            self._record({"do": "tags", "key": key, "value": str(value)})

    def log_dataset(self, name: str, source: str, digest: str) -> None:
        """Record an input: a short name, where it lies or comes from, and the hash of its content."""
        self._identity[f"dataset {name}"] = digest
        self._record({"do": "dataset", "name": name, "source": source, "digest": digest})

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Copy a small file (a figure, a table) as it is now into `folder` of the run's artifacts."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            _warn(f"artifact left out ({error})")
            return
        self._log_bytes("/".join(filter(None, (folder, Path(path).name))), data)

    def log_text(self, text: str, name: str) -> None:
        """Store `text` as the artifact `name`, e.g. `samples/step-000100.txt`."""
        self._log_bytes(name, text.encode())

    def log_table(self, rows: list[dict[str, Any]], name: str) -> None:
        """Store rows as the artifact `name` (`.json`), which MLflow shows as a table."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = {"columns": columns, "data": [[row.get(column) for column in columns] for row in rows]}
        self.log_text(json.dumps(table, ensure_ascii=False, default=str), name)
        self._tables.append({"path": name, "type": "table"})
        self._record({"do": "table", "tables": list(self._tables)})

    def link_run(self, stage: str, tag: str, value: str) -> None:
        """Tag this run `run.<stage>` with the id of the newest run of `stage` whose `tag` is `value`."""
        self._record({"do": "link", "stage": stage, "tag": tag, "value": value})

    def name(self) -> str:
        """Return the run's name: DVC's experiment, or the stage and a hash of its params and input digests."""
        identity = json.dumps(self._identity, sort_keys=True)
        return os.environ.get("DVC_EXP_NAME") or f"{self.stage}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"

    def _log_bytes(self, name: str, data: bytes) -> None:
        self._record({"do": "artifact", "name": name, "base64": base64.b64encode(data).decode()})


class Courier:
    """Takes events from the stage and delivers them from a thread of its own, to the store or to the spool."""

    def __init__(self, stage: str, training: str | None, facts: Callable[[], dict[str, str]]):
        self.facts = facts  # tags that take a moment to find out
        self.header: Event = {"do": "start", "stage": stage, "time": _now_ms(), "training": training}
        self.pending: list[Event] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._work, name="mlflow-courier", daemon=True)

    def record(self, event: Event) -> None:
        self.pending.append(event)

    def start(self, name: str) -> None:
        self.header["name"] = name
        self.thread.start()

    def finish(self, status: str, name: str) -> None:
        """Record the end and wait until everything is delivered or spooled."""
        self.record({"do": "end", "status": status, "name": name, "time": _now_ms()})
        self.over.set()
        self.thread.join()

    def _work(self) -> None:
        try:
            self._deliver_all()
        except Exception as error:  # a tracker never stops the work, whatever MLflow or the disk do
            _warn(f"this run's remaining records are kept in {spool_folder()} and sent later ({_line(error)})")
            self.over.wait()
            try:
                write_jsonl(spool_folder() / f"{uuid.uuid4().hex}.jsonl", [self.header, *self.pending])
            except UserError as disk:
                print(f"tracking: records lost ({disk})", file=sys.stderr)

    def _deliver_all(self) -> None:
        for key, value in self.facts().items():
            self.record({"do": "tags", "key": key, "value": value})
        store = mlflow_store.open_store()
        self.header["run_id"] = store.begin(self.header)
        send_spool(store)
        while True:
            last = self.over.is_set()  # read before the events: the end is recorded before it is set
            count = len(self.pending)
            for sentence in store.deliver(self.header["run_id"], self.pending[:count]):
                _warn(f"MLflow refused a record ({_line(sentence)})")
            del self.pending[:count]  # only now: what a broken delivery leaves goes to the spool
            if last:
                return
            self.over.wait(FLUSH_SECONDS)


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
                header, *events = map(json.loads, file.read_text(encoding="utf-8").splitlines())
                if "run_id" not in header:
                    header["run_id"] = store.start(header)
                    write_jsonl(file, [header, *events])  # a delivery that breaks off goes on in the same run
                store.deliver(header["run_id"], events)
                file.unlink()
    except Timeout:  # another run is sending them
        return
    except Exception as error:  # no reason to spool this run's own records too
        _warn(f"records of earlier runs stay in {spool_folder()} ({_line(error)})")


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
        print(f"tracking: {sentence}", file=sys.stderr)


def _line(error: object) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
