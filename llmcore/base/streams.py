"""Standard streams on which nothing can go wrong in another way than as one line: closed, full, not in UTF-8."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from llmcore.base.credentials import masked


class StreamError(Exception):
    """A standard stream cannot be read or written: names the stream, the reason and the remedy."""


class ReaderGoneError(StreamError):
    """The program that read standard output has ended, such as `head`."""


class _Wrapped:
    """A stream with its attributes, of which subclasses replace some."""

    def __init__(self, stream: TextIO):
        self.wrapped = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


class ResultStream(_Wrapped):
    """Standard output of a command; a failed write raises StreamError."""

    def write(self, text: str) -> int:
        with _stream_errors("standard output: cannot be written"):
            return self.wrapped.write(text)

    def flush(self) -> None:
        with _stream_errors("standard output: cannot be written"):
            self.wrapped.flush()


class MessageStream(_Wrapped):
    """A stream of messages: passwords are masked, and a failed write changes nothing else."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.wrapped.write(masked(text))
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.wrapped.flush()


class InputStream(_Wrapped):
    """Standard input; a failed read raises StreamError."""

    def __iter__(self) -> Iterator[str]:
        with _stream_errors("standard input: cannot be read"):
            yield from self.wrapped

    def read(self, size: int = -1) -> str:
        with _stream_errors("standard input: cannot be read"):
            return self.wrapped.read(size)


@contextmanager
def _stream_errors(what: str) -> Iterator[None]:
    """Turn an OSError of the body into a StreamError that begins with `what`."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError from error
    except OSError as error:
        raise StreamError(f"{what} ({error.strerror or error}); redirect it to another place") from error


def prepare_streams(*, prints_result: bool) -> None:
    """Put wrappers around the standard streams of this process.

    A character that the terminal's encoding lacks is printed as `\\u20ac`. Standard input is UTF-8. A closed stream
    becomes /dev/null; StreamError for standard output if `prints_result`, because the result would be lost.
    """
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:  # in this order: each takes the lowest free number, which no other file must get
        file = os.open(os.devnull, os.O_RDWR)
        setattr(sys, name, os.fdopen(file, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))
    wrappers = {
        "stdin": InputStream,
        "stdout": ResultStream if prints_result else MessageStream,
        "stderr": MessageStream,
    }
    for name, wrapper in wrappers.items():
        stream: Any = getattr(sys, name)
        stream = stream.wrapped if isinstance(stream, _Wrapped) else stream
        with suppress(AttributeError, OSError):  # a stream of another library; one that was read already
            stream.reconfigure(**({"encoding": "utf-8"} if name == "stdin" else {"errors": "backslashreplace"}))
        setattr(sys, name, wrapper(stream))
    if prints_result and "stdout" in closed:
        raise StreamError("standard output: is closed; redirect it to a file or to /dev/null")


def discard(stream: TextIO) -> None:
    """Let what is still to be flushed at exit go nowhere."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def utf8_text(argument: str) -> str:
    """Return an argument of the command line as the UTF-8 text that it is, whatever the locale's encoding;
    StreamError for other bytes."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        raise StreamError(f"argument {argument!a}: must be UTF-8 text; convert it") from None
