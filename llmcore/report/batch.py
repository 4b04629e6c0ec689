"""A training batch as text: on a terminal in colours, elsewhere with plain marks."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

COLOURS = {"target": "\x1b[30;42m", "masked": "\x1b[2m", "padding": "\x1b[90m"}  # black on green, faint, grey
RESET = "\x1b[0m"
LEGEND = {"target": "learned", "masked": "read only", "padding": "padding"}


def batch_text(rows: Sequence[tuple[str, Sequence[tuple[str, str]]]], *, colour: bool) -> str:
    """Return rows of (title, (text, kind) of each token), with a mark for each kind, and a legend.

    In colours, or with marks: `{+learned+}`, read only as it is, `(5 padding)`. Line ends inside a token
    stay; other control characters become spaces, so that data cannot steer the terminal.
    """
    lines = [
        f"--- {title}\n{''.join(_run(kind, run, colour) for kind, run in _runs(pieces))}" for title, pieces in rows
    ]
    legend = "  ".join(_marked(kind, word, colour) for kind, word in LEGEND.items())
    return "\n".join([*lines, "---", legend])


def _runs(pieces: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    return [(kind, [text for text, _ in run]) for kind, run in groupby(pieces, key=lambda piece: piece[1])]


def _run(kind: str, texts: Sequence[str], colour: bool) -> str:
    text = f"{len(texts)} padding" if kind == "padding" else "".join(texts)
    return _marked(kind, "".join(c if c.isprintable() or c == "\n" else " " for c in text), colour)


def _marked(kind: str, text: str, colour: bool) -> str:
    if colour:
        return f"{COLOURS[kind]}{text}{RESET}"
    marks: dict[Any, tuple[str, str]] = {"target": ("{+", "+}"), "padding": ("(", ")")}
    before, after = marks.get(kind, ("", ""))
    return f"{before}{text}{after}"
