"""Windows: the rows a language model trains on, cut from the token file when they are asked for.

A window is a place (the position of its first input) and a count (how many of its targets give
loss). `sample` decides the windows once; `Windows` cuts them. Book: chapter 2.6, where windows are
copied into lists; here nothing is copied. Two ways to choose them:

- `stride`: window i begins at `i * stride`; the end of the corpus that fills no window is left out.
- `documents`: a window begins with the end-of-text before a document and counts the whole documents
  that fit; so each token, and each document's closing end-of-text, is a target exactly once.
"""

import numpy as np

from llmcore.data.tokens import Tokens

IGNORE_INDEX = -100  # a target that gives no loss: the default of torch.nn.functional.cross_entropy

PLACE_AND_COUNT = np.dtype([("place", "<i8"), ("count", "<i4")])


def cut_corpus(tokens: Tokens, val_fraction: float) -> int:
    """Return the position of the first id of the validation part, the last `val_fraction` of the corpus.

    It is the document boundary nearest to that place, unless it would change the size of the part by more
    than a tenth, as in a corpus of one or few documents.
    """
    total = len(tokens.ids)
    wanted = int(total * (1 - val_fraction))
    nearest = int(tokens.starts[np.abs(tokens.starts - wanted).argmin()])
    return nearest if nearest > 0 and abs(nearest - wanted) <= 0.1 * (total - wanted) else wanted


def stride_windows(begin: int, end: int, length: int, stride: int) -> np.ndarray:
    """Return the windows inside `[begin, end)`: `(end - begin - length - 1) // stride + 1` of them, or none.

    A window needs `length` inputs and one more token to predict.
    """
    places = np.arange(begin, end - length, stride)
    windows = np.empty(len(places), PLACE_AND_COUNT)
    windows["place"], windows["count"] = places, length
    return windows


def document_windows(tokens: Tokens, begin: int, end: int, length: int) -> np.ndarray:
    """Return windows of the documents inside `[begin, end)`; a document longer than a window is cut.

    A document of n tokens has n + 1 targets: its tokens and its closing end-of-text. Of one that reaches
    over the edge, the part inside counts.
    """
    windows: list[tuple[int, int]] = []
    place, count = 0, 0  # of the window being filled
    for first, targets in zip(*_pieces(tokens, begin, end), strict=True):
        if count and count + targets > length:
            windows.append((place, count))
            count = 0
        if not count:
            place = first - 1  # the end-of-text before the document is the first input
        while targets > length:
            windows.append((place, length))
            place, targets = place + length, targets - length
        count += targets
    if count:
        windows.append((place, count))
    return np.array(windows, PLACE_AND_COUNT)


def _pieces(tokens: Tokens, begin: int, end: int) -> tuple[list[int], list[int]]:
    """Return, for each document inside `[begin, end)`, its first position and its number of targets."""
    total = len(tokens.ids)
    closings = np.append(tokens.starts[1:] - 1, total)  # position of each closing end-of-text
    first = np.maximum(tokens.starts, begin)
    closed = (closings < end) | (end == total)
    targets = np.minimum(closings, end) - first + closed
    inside = (tokens.starts < end) & (closings >= begin) & (targets > 0)
    return first[inside].tolist(), targets[inside].tolist()


class Windows:
    """Rows of inputs and targets, cut on access.

    Outside the corpus the file reads as end-of-text: before the first document, after the last.
    """

    def __init__(self, tokens: Tokens, windows: np.ndarray):
        self.tokens, self.windows = tokens, windows

    def __len__(self) -> int:
        return len(self.windows)

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and targets, each (B, T) int64, as long as the longest of the windows asked for.

        Targets beyond a window's count are IGNORE_INDEX.
        """
        chosen = self.windows[indices]
        length = int(chosen["count"].max())
        positions = chosen["place"][:, None] + np.arange(length + 1)  # (B, T+1)
        total = len(self.tokens.ids)
        ids = self.tokens.ids[np.clip(positions, 0, total - 1)].astype(np.int64)
        ids[(positions < 0) | (positions >= total)] = self.tokens.end_of_text
        inputs, targets = ids[:, :-1], ids[:, 1:].copy()
        targets[np.arange(length) >= chosen["count"][:, None]] = IGNORE_INDEX
        return inputs, targets
