"""Continuous batching: one thread owns a model's decoder, which requests join and leave at token boundaries."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from llmcore.base.errors import UserError
from llmcore.generate.decoder import Decoder
from llmcore.generate.text_stream import TextStream
from llmcore.generate.write import text_piece
from llmcore.serve.errors import ApiError, busy, of_failure, of_user_error, shutting_down, stopped
from llmcore.serve.generation import Generation, Piece
from llmcore.serve.limits import Limits
from llmcore.serve.models import ServedModel

JOIN_SECONDS = 2.0  # for the step that is being computed when the server ends

logger = logging.getLogger("llmcore.serve")


class Key(NamedTuple):
    """Of a row in the decoder."""

    generation: int
    row: int


@dataclass
class _Open:
    """A generation whose rows are not all written, and the text of each that is not."""

    generation: Generation
    texts: dict[int, TextStream] = field(default_factory=dict)


class Scheduler:
    """Continue texts for any number of requests. `submit` and `cancel` may be called from any thread.

    What a request gets does not depend on the others: an error in the thread ends those that were being written, and
    the rest goes on with a new decoder.
    """

    def __init__(self, served: ServedModel, limits: Limits):
        self.served = served
        self.limits = limits
        self._numbers: dict[Generation, int] = {}  # of those that are open
        self._next_number = 0
        self._closed = False
        self._stopped = False  # the thread has ended, whether it should or not
        self._lock = threading.Lock()  # of the four above
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # what follows belongs to the thread
        self._open: dict[int, _Open] = {}
        self._decoder = self._new_decoder()
        self._thread = threading.Thread(target=self._run, name=f"model {served.id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Let the thread end after the step that it computes, and what is open with an error."""
        with self._lock:
            self._closed = True
            self._inbox.put(None)

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join(JOIN_SECONDS)

    @property
    def n_open(self) -> int:
        """Requests that wait or are being written."""
        return len(self._numbers)

    @property
    def failed(self) -> bool:
        """Whether the thread has ended, although nobody asked it to: nothing is answered any more."""
        return self._stopped and not self._closed

    def submit(self, generation: Generation) -> None:
        """Let a request wait; ApiError with status 429 if too many do, 503 if the thread has ended."""
        with self._lock:
            if self._closed or self._stopped:
                raise self._refusal()
            waiting = sum(not other.begun for other in self._numbers)
            if waiting >= self.limits.max_waiting:
                raise busy(f"{waiting} requests are waiting for {self.served.id}, as many as may")
            self._numbers[generation] = number = self._next_number
            self._next_number += 1
            self._inbox.put(partial(self._add, number, generation))

    def cancel(self, generation: Generation) -> None:
        """Forget a request, whose client has gone; one that has ended is no error."""
        if (number := self._numbers.get(generation)) is not None:
            self._inbox.put(partial(self._end, number))

    # ---- in the thread

    def _run(self) -> None:
        try:
            while self._go_on():
                pass
        finally:
            with self._lock:
                self._stopped = True
                for generation in self._numbers:
                    generation.put(self._refusal())
                self._numbers.clear()

    def _refusal(self) -> ApiError:
        return shutting_down() if self._closed else stopped(self.served.id)

    def _go_on(self) -> bool:
        """Do what is due, whatever fails; False when it is the end."""
        try:
            if not self._read_inbox():
                return False
            if self._decoder.busy:
                self._step()
                self._expire()
        except Exception as error:
            self._recover(error)
        return True

    def _read_inbox(self) -> bool:
        """Do what was asked for meanwhile, or wait for it where nothing else is due; False when it is the end."""
        while not (self._decoder.busy and self._inbox.empty()):
            task = self._inbox.get()
            if task is None:
                return False
            task()
        return True

    def _add(self, number: int, generation: Generation) -> None:
        config, tokenizer = generation.config, self.served.tokenizer
        self._open[number] = opened = _Open(generation)
        try:
            for index, prompt in enumerate(generation.prompts.ids):
                first = index * config.n
                rows = range(first, first + config.n)
                keys = [Key(number, row) for row in rows]
                self._decoder.add(keys, prompt, config, stop_ids=generation.prompts.stop_ids, place=first)
                opened.texts |= {row: TextStream(tokenizer, prompt, config.stop) for row in rows}
        except UserError as error:
            self._end(number, of_user_error(error))
        except Exception as error:
            logger.exception("a request could not be read")
            self._end(number, of_failure(error))

    def _step(self) -> None:
        """Compute the next tokens, and report the text that they make."""
        pieces: dict[int, list[Piece]] = defaultdict(list)
        for new in self._decoder.step():
            assert isinstance(new.key, Key)
            texts = self._open[new.key.generation].texts
            if (text := texts.get(new.key.row)) is None:
                continue  # guessed ahead, behind a stop string
            _, added, _, reason = text_piece(text, new)
            pieces[new.key.generation].append(Piece(new.key.row, added, new, reason))
            if reason:
                del texts[new.key.row]
                self._decoder.remove(new.key)
        for number, of_one in pieces.items():
            self._open[number].generation.put(of_one)
            if not self._open[number].texts:
                self._end(number)

    def _end(self, number: int, error: ApiError | None = None) -> None:
        """Report the end of a request, and take what is left of it out of the decoder."""
        if (opened := self._open.pop(number, None)) is None:
            return
        with self._lock:
            del self._numbers[opened.generation]
        opened.generation.put(error)  # first: it is due even if the rest fails
        for row in opened.texts:
            self._decoder.remove(Key(number, row))

    def _expire(self) -> None:
        """Cut the texts of requests that take too long; one that has none yet is refused."""
        now = time.monotonic()
        for number, opened in list(self._open.items()):
            if opened.generation.deadline >= now:
                continue
            if opened.generation.begun:
                opened.generation.put([Piece(row, text.flush(), None, "timeout") for row, text in opened.texts.items()])
                self._end(number)
            else:
                rule = f"the request has waited for {self.limits.max_seconds:g} seconds"
                self._end(number, ApiError(503, f"{rule}; try again later", code="timeout"))

    def _recover(self, error: Exception) -> None:
        """End what was being written, and let the rest wait for a new decoder; where that fails too, end everything."""
        if not isinstance(error, UserError):
            logger.exception("a step of %s failed", self.served.id)
        try:
            self._restart(error)
        except Exception:
            logger.exception("what waited for %s could not be kept", self.served.id)
            self._decoder = self._new_decoder()
            for number in list(self._open):
                self._end(number, of_failure(error))

    def _restart(self, error: Exception) -> None:
        """Take a new decoder for what had not begun, and end the rest with an error."""
        waiting = {row.key for group in self._decoder.waiting for row in group}
        self._decoder = self._new_decoder()
        kept = [
            number
            for number, opened in self._open.items()
            if all(Key(number, row) in waiting for row in range(opened.generation.n_rows))
        ]
        if len(kept) == len(self._open):
            kept = []  # the failure is theirs
        again = {number: self._open[number].generation for number in kept}
        for number in self._open.keys() - again.keys():
            self._end(number, of_failure(error))
        for number, generation in again.items():
            self._add(number, generation)

    def _new_decoder(self) -> Decoder:
        return Decoder(self.served.language_model, self.limits.max_rows, self.limits.kept_prefixes)
