"""Windows: the rows a language model trains on, cut from the token file when they are asked for.

A window is a place (the position of its first input) and a count (how many of its targets count
for the loss). The stage `sample` chooses the windows; `Windows` cuts them from the file, without a copy of
the corpus (book: chapter 2.6, which copies windows into lists). Two ways to choose them:

- `stride`: window i begins at `i * stride`; tokens at the end that fill no window are left out.
- `documents`: a window begins with the end-of-text before a document and contains the whole documents
  that fit. So each token, and the end-of-text that closes each document, is a target exactly once.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmcore.data.tokens import Tokens

IGNORE_INDEX = -100  # of targets without loss; the default of torch.nn.functional.cross_entropy

DOCUMENTS_AT_ONCE = 1 << 16  # looked at together

PLACE_AND_COUNT = np.dtype([("place", "<i8"), ("count", "<i4")])


def cut_corpus(tokens: Tokens, val_fraction: float, begin: int = 0, end: int | None = None) -> int:
    """Return the position of the first id of the validation part, the last `val_fraction` of the ids in `[begin, end)`.

    It is the nearest start of a document, unless that would change the size of the part by more than a
    tenth, as in a corpus of one or few documents.
    """
    end = len(tokens.ids) if end is None else end
    wanted = begin + int((end - begin) * (1 - val_fraction))
    nearest = int(tokens.starts[np.abs(tokens.starts - wanted).argmin()])
    return nearest if nearest > begin and abs(nearest - wanted) <= 0.1 * (end - wanted) else wanted


@dataclass(frozen=True)
class StrideWindows:
    """Windows inside `[begin, end)` that begin at every `stride`, read like the array of `document_windows`.

    They are computed on access: stored, windows at every token would take six times the bytes of the token file.
    """

    begin: int
    end: int
    length: int
    stride: int

    def __len__(self) -> int:
        """Return `(end - begin - length - 1) // stride + 1`, or 0: a window needs one more token to predict."""
        return len(range(self.begin, self.end - self.length, self.stride))

    def __getitem__(self, key: str | np.ndarray) -> np.ndarray:
        """Return the windows with these numbers, or the "place" or "count" of every window."""
        if isinstance(key, str):
            one = np.broadcast_to(np.int32(self.length), len(self))  # a single number in memory
            return one if key == "count" else self[np.arange(len(self))][key]
        windows = np.empty(len(key), PLACE_AND_COUNT)
        windows["place"] = self.begin + self.stride * key
        windows["count"] = self.length
        return windows


class ConcatWindows:
    """StrideWindows of several spans, of one length, read as one array."""

    def __init__(self, parts: Sequence[StrideWindows]):
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, key: str | np.ndarray) -> np.ndarray:
        if isinstance(key, str):
            one = np.broadcast_to(np.int32(self.parts[0].length), len(self))  # a single number in memory
            return one if key == "count" else np.concatenate([part[key] for part in self.parts])
        windows = np.empty(len(key), PLACE_AND_COUNT)
        numbers = np.searchsorted(self.ends, key, side="right")
        for number, part in enumerate(self.parts):
            here = numbers == number
            windows[here] = part[key[here] - (self.ends[number] - len(part))]
        return windows


WindowArray = np.ndarray | StrideWindows | ConcatWindows  # len() and indexing are alike


def concat_windows(parts: Sequence[WindowArray]) -> WindowArray:
    """Return the windows of all parts, which are of one kind, in their order."""
    if len(parts) == 1:
        return parts[0]
    strides = [part for part in parts if isinstance(part, StrideWindows)]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    return ConcatWindows(strides) if strides else np.concatenate(arrays)


def document_windows(tokens: Tokens, begin: int, end: int, length: int) -> np.ndarray:
    """Return windows of the documents inside `[begin, end)`; a document longer than a window is cut.

    A document of n tokens has n + 1 targets: its tokens and the end-of-text that closes it. Of a document
    that crosses `begin` or `end`, only the part inside counts.
    """
    places = array("q")
    counts = array("i")

    def add(place: int, count: int) -> None:
        places.append(place)
        counts.append(count)

    place = 0  # of the window being filled
    count = 0
    for first, targets in _pieces(tokens, begin, end):
        if count and count + targets > length:
            add(place, count)
            count = 0
        if not count:
            place = first - 1  # the end-of-text before the document is the first input
        while targets > length:
            add(place, length)
            place += length
            targets -= length
        count += targets
    if count:
        add(place, count)
    windows = np.empty(len(places), PLACE_AND_COUNT)
    windows["place"] = places
    windows["count"] = counts
    return windows


def _pieces(tokens: Tokens, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the first position and the number of targets of each document inside `[begin, end)`."""
    total = len(tokens.ids)
    for at in range(0, len(tokens.starts), DOCUMENTS_AT_ONCE):
        starts = tokens.starts[at : at + DOCUMENTS_AT_ONCE]
        following = np.append(tokens.starts[at + 1 : at + len(starts) + 1], total + 1)[: len(starts)]
        closings = following - 1  # position of each closing end-of-text
        first = np.maximum(starts, begin)
        closed = (closings < end) | (end == total)
        targets = np.minimum(closings, end) - first + closed
        inside = (starts < end) & (closings >= begin) & (targets > 0)
        yield from zip(first[inside].tolist(), targets[inside].tolist(), strict=True)


class Windows:
    """Rows of inputs and targets, cut from the token file on access.

    Positions before the first document and after the last read as end-of-text. Targets that are `ignored_id` give
    no loss.
    """

    def __init__(self, tokens: Tokens, windows: WindowArray, ignored_id: int | None = None):
        self.tokens = tokens
        self.windows = windows
        self.ignored_id = ignored_id

    def __len__(self) -> int:
        return len(self.windows)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs and targets of B windows, each (B, T) int64, T the largest count among them.

        Targets beyond a window's count, and those that are ignored, are IGNORE_INDEX.
        """
        chosen = self.windows[indices]
        length = int(chosen["count"].max())
        positions = chosen["place"][:, None] + np.arange(length + 1)  # (B, T+1)
        total = len(self.tokens.ids)
        ids = self.tokens.ids[np.clip(positions, 0, total - 1)].astype(np.int64)
        ids[(positions < 0) | (positions >= total)] = self.tokens.end_of_text
        inputs = ids[:, :-1]
        targets = ids[:, 1:].copy()
        targets[np.arange(length) >= chosen["count"][:, None]] = IGNORE_INDEX
        if self.ignored_id is not None:
            targets[targets == self.ignored_id] = IGNORE_INDEX
        return inputs, targets
