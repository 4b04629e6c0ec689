"""Machines that compute together live and die together: each says every second that it is there, and why it ends."""

import math
import threading
import time
from contextlib import suppress

import psutil

from llmcore.dvc.parent import is_alive
from llmcore.run.machines import Meeting

BEAT_SECONDS = 1.0
LOST_SECONDS = 10.0  # of silence, after which a machine counts as lost
BROKEN_SECONDS = 3.0  # the same where its processes have closed their connections, too
TERM_SECONDS = 5.0  # between SIGTERM and SIGKILL: a process that waits for a lost machine obeys only the latter
POLL_SECONDS = 0.2
LEAVE_SECONDS = 3.0  # for telling the first machine

ENDED = "ended"  # key of the store: why a machine has ended that should not have


class Watch:
    """Watches the other machines while this one computes, and ends this one's processes when one is missing.

    The first machine watches all, and they watch the first, on which their store lives.
    """

    def __init__(self, meeting: Meeting):
        self.reason: str | None = None  # why this machine cannot go on
        self._meeting = meeting
        self._store = meeting.store
        self._rank = meeting.machines.rank
        others = range(1, meeting.machines.count) if meeting.machines.is_first else [0]
        self._heard = dict.fromkeys(others, time.monotonic())
        self._beats = dict.fromkeys(others, 0)
        self._patience_seconds = LOST_SECONDS
        self._closing = threading.Event()
        self._ending: str | None = None
        # two threads: an answer of the store may never come
        self._beating = threading.Thread(target=self._beat, name="machines-beat", daemon=True)
        self._judging = threading.Thread(target=self._judge, name="machines-judge", daemon=True)
        self._beating.start()
        self._judging.start()

    def wait_for_reason(self) -> None:
        """Wait until it is known why the processes of this machine have lost those of another one."""
        self._patience_seconds = BROKEN_SECONDS
        end = time.monotonic() + LOST_SECONDS + BEAT_SECONDS
        while self.reason is None and time.monotonic() < end:
            time.sleep(POLL_SECONDS)

    def close(self, ending: str | None) -> None:
        """Stop watching, and tell the other machines why this one ends; None if its work is done."""
        self._ending = ending
        self._closing.set()
        self._beating.join(LOST_SECONDS + BEAT_SECONDS if self._meeting.machines.is_first else LEAVE_SECONDS)

    def _beat(self) -> None:
        try:
            while not self._closing.wait(BEAT_SECONDS):
                self._exchange()
            if self._ending and not self.reason:
                self._store.compare_set(ENDED, "", f"{self._meeting.name_of(self._rank)} {self._ending}")
            self._store.add(f"left/{self._rank}", 1)
            while self._meeting.machines.is_first and self._heard.keys() - self._lost():
                self._exchange()
                time.sleep(POLL_SECONDS)
        except RuntimeError:  # the connection is closed
            self._heard[0] = -math.inf

    def _exchange(self) -> None:
        self._store.add(f"beat/{self._rank}", 1)
        for other in list(self._heard):
            beats = self._store.add(f"beat/{other}", 0)
            if beats != self._beats[other]:
                self._beats[other], self._heard[other] = beats, time.monotonic()
            if other and self._store.add(f"left/{other}", 0):
                del self._heard[other]
        if self.reason:
            self._store.compare_set(ENDED, "", self.reason)
        elif not self._closing.is_set() and self._store.check([ENDED]):
            self.reason = self._store.get(ENDED).decode()

    def _lost(self) -> list[int]:
        """Return the machines that have been silent for too long, the most silent one first."""
        limit, heard = time.monotonic() - self._patience_seconds, self._heard.copy()
        return sorted((other for other, last in heard.items() if last < limit), key=heard.__getitem__)

    def _judge(self) -> None:
        while not self._closing.wait(POLL_SECONDS):
            if self.reason is None and (lost := self._lost()):
                self.reason = f"{self._meeting.name_of(lost[0])} does not answer any more"
            if self.reason:
                _end_processes()


def _end_processes() -> None:
    """End what this process has started, but leave it to the launcher to wait for it: an exit code is read once."""
    children = psutil.Process().children()
    end = time.monotonic() + TERM_SECONDS
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.terminate()
    while (running := [child for child in children if is_alive(child)]) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    for child in running:
        with suppress(psutil.NoSuchProcess):
            child.kill()
