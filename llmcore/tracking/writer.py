"""Writes recorded events to MLflow from a thread; what could not be written at the end is spooled.

Recording only appends to a list. The thread imports MLflow, opens the store and writes every few
seconds, so the work waits for none of it except, at the end and not for long, for the last events.
"""

import threading
import time
import uuid
from collections.abc import Callable

from llmcore.tracking import mlflow_store, store_location
from llmcore.tracking.events import Event, one_line, warn
from llmcore.tracking.spool import send_spool, write_spool

FLUSH_SECONDS = 3.0
RETRY_SECONDS = 30.0  # between attempts to reach a store
LOAD_TIMEOUT_SECONDS = 120.0  # that the end of a run waits for MLflow's import; a busy machine needs long for that
STORE_TIMEOUT_SECONDS = 30.0  # that it waits for the store
KILLED_TIMEOUT_SECONDS = 5.0  # that it waits after Ctrl-C or SIGTERM; `llmcore.dvc.parent` kills after 10


class MlflowWriter:
    """Takes events from the stage and writes them from a thread of its own."""

    def __init__(self, stage: str, training: str | None, late_tags: Callable[[], dict[str, str]]):
        self._late_tags = late_tags
        # by this mark the store recognises a run whose creation it did not get to confirm
        mark: Event = {"training": training} if training else {"delivery": uuid.uuid4().hex}
        self._header: Event = {"do": "start", "stage": stage, "time": _now_ms(), **mark}
        self._pending: list[Event] = []
        self._loaded = threading.Event()
        self._over = threading.Event()
        self._problem = "the tracker is too slow"
        self._thread = threading.Thread(target=self._work, name="mlflow-writer", daemon=True)
        self._thread_seconds = 0.0
        self._waited_seconds = 0.0
        self._begin = time.perf_counter()

    @property
    def is_started(self) -> bool:
        return self._thread.ident is not None

    def record(self, event: Event) -> None:
        self._pending.append(event)

    def start(self, name: str) -> None:
        self._header["name"] = name
        self._thread.start()

    def finish(self, status: str, name: str) -> None:
        """Record the end and wait until everything is written or the timeout is over; the rest is spooled.

        Ctrl-C and SIGTERM end the waiting.
        """
        begin = time.perf_counter()
        try:
            self.record({"do": "end", "status": status, "name": name, "time": _now_ms()})
            self._over.set()
            if status != "KILLED":
                self._loaded.wait(LOAD_TIMEOUT_SECONDS)
            self._thread.join(KILLED_TIMEOUT_SECONDS if status == "KILLED" else STORE_TIMEOUT_SECONDS)
        finally:
            if self._pending:
                write_spool([self._header, *self._pending], self._problem)
            self._waited_seconds = time.perf_counter() - begin

    def cost(self) -> str:
        """Return an upper limit of the time that tracking took from the work, as a sentence.

        It counts the thread's processor time even on a core that nothing else wanted.
        """
        whole = time.perf_counter() - self._begin
        seconds = self._waited_seconds + self._thread_seconds
        return f"tracking took {seconds:.1f} s of {whole:.0f} s ({seconds / whole:.1%})"

    def _work(self) -> None:
        while True:
            try:
                self._record_late_tags()
                self._write_all()
                return
            except Exception as error:  # a tracker never stops the work, whatever MLflow or the disk do
                self._problem = one_line(error)
            finally:
                self._loaded.set()
                self._thread_seconds = time.thread_time()
            if self._over.is_set():
                return
            warn(f"records wait, to be sent at the end or by a later run ({self._problem})")
            self._over.wait(RETRY_SECONDS)

    def _record_late_tags(self) -> None:
        """Record them, once."""
        for key, value in self._late_tags().items():
            self.record({"do": "tags", "key": key, "value": value})
        self._late_tags = dict

    def _write_all(self) -> None:
        store_location.load_mlflow()
        self._loaded.set()
        store = mlflow_store.open_store()
        self._header["run_id"] = store.begin(self._header)
        send_spool(store)
        while True:
            last = self._over.is_set()  # read before the events: the end is recorded before it is set
            count = len(self._pending)
            for refusal in store.write(self._header["run_id"], self._pending[:count]):
                warn(f"MLflow refused a record ({one_line(refusal)})")
            del self._pending[:count]  # only now: events of a broken write are written again
            if last:
                return
            self._thread_seconds = time.thread_time()
            self._over.wait(FLUSH_SECONDS)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
