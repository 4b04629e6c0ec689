"""Events that did not reach the store, kept in `.mlflow-spool/` as JSON lines for the next run that reaches it."""

import json
import sys
import uuid
from itertools import chain
from pathlib import Path

from llmcore.base.files import write_jsonl
from llmcore.base.project import project_root
from llmcore.tracking.events import Event, one_line, warn
from llmcore.tracking.mlflow_store import Store, batches


def spool_folder() -> Path:
    """Return the folder of unsent runs: one file of JSON lines per run, its header first."""
    return project_root() / ".mlflow-spool"


def write_spool(events: list[Event], reason: str) -> None:
    """Keep the header and the unsent events of a run, with a warning that names the reason."""
    warn(f"this run's remaining records are kept in {spool_folder()} and sent later ({reason})")
    try:
        write_jsonl(spool_folder() / f"{uuid.uuid4().hex}.jsonl", events)
    except Exception as error:  # the disk is full, too
        print(f"tracking: records lost ({one_line(error)})", file=sys.stderr)


def send_spool(store: Store) -> None:
    """Send what earlier runs left in the spool; a file is removed only when all of it has arrived."""
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
        warn(f"records of earlier runs stay in {spool_folder()} ({one_line(error)})")


def _send_file(store: Store, file: Path) -> None:
    """Send a spooled run; its file shrinks by each part that has arrived, so that the slowest store gets it all."""
    try:
        header, *events = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    except ValueError as error:  # damaged; the other files can do without it
        warn(f"{file} cannot be read and stays ({one_line(error)})")
        return
    if not store.has(header.get("run_id")):
        header["run_id"] = store.start(header)
    parts = list(batches(events))
    for number, part in enumerate(parts):
        write_jsonl(file, [header, *chain.from_iterable(parts[number:])])
        store.write(header["run_id"], part)
    file.unlink()
