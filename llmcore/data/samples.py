"""The samples folder: the windows for training and validation, and the floor of the validation loss."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from llmcore.base.errors import UserError
from llmcore.base.files import fresh_folder, read_json, write_json
from llmcore.data.documents import DOCUMENTS_FILE, read_raw_text
from llmcore.data.tokens import Tokens, write_array
from llmcore.data.windows import StrideWindows, WindowArray, cut_corpus, document_windows

WINDOWS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Samples:
    """Training and validation windows over one token file."""

    train: WindowArray  # each window has a place and a count
    val: WindowArray
    window_tokens: int
    val_position: int  # of the first id of the validation part
    floor_nats: float | None  # -log p of the validation documents: no model's expected loss is lower; None: not known

    def floor_per(self, units: int) -> float | None:
        """Return the floor in nats per token, byte, ..., if the validation part has `units` of them."""
        return None if self.floor_nats is None else self.floor_nats / units


def choose_samples(
    tokens: Tokens, *, window_tokens: int, stride_tokens: int, window_start: str, val_fraction: float
) -> Samples:
    """Divide the corpus into training and validation and choose the windows of both parts.

    `window_start` is "documents" or "stride"; validation windows never overlap. UserError if the corpus is
    too short for a window in each part.
    """
    total = len(tokens.ids)
    cut = cut_corpus(tokens, val_fraction)

    def windows(begin: int, end: int, stride: int) -> WindowArray:
        if window_start == "documents":
            return document_windows(tokens, begin, end, window_tokens)
        return StrideWindows(begin, end, window_tokens, stride)

    train = windows(0, cut, stride_tokens)
    val = windows(cut, total, window_tokens)
    if total <= window_tokens or not len(train) or not len(val):
        parts = f"{total} tokens, {cut} of them for training and {total - cut} for validation"
        rule = f"must leave a window in each part of the corpus ({parts}), got {window_tokens}"
        raise UserError(f"sample.window_tokens {rule}; lower it, or add text")
    return Samples(train, val, window_tokens, cut, _floor(tokens, cut) if window_start == "documents" else None)


def _floor(tokens: Tokens, cut: int) -> float | None:
    """Return the -log p of the documents from `cut` on; None if not known, or if `cut` is inside a document."""
    if tokens.document_nats is None or cut not in tokens.starts:
        return None
    return float(tokens.document_nats[tokens.starts >= cut].sum())


def coverage(windows: WindowArray, begin: int, end: int) -> float:
    """Return the fraction of the ids in `[begin, end)` that are a target of at least one window."""
    covered = 0
    reached = begin  # all before is counted
    for at in range(0, len(windows), WINDOWS_AT_ONCE):  # in the order of their places
        chosen = windows[np.arange(at, min(at + WINDOWS_AT_ONCE, len(windows)))]
        first = np.clip(chosen["place"] + 1, begin, end)
        behind = np.clip(chosen["place"] + 1 + chosen["count"], begin, end)
        before = np.maximum.accumulate(np.append(reached, behind))
        covered += int(np.maximum(behind - np.maximum(first, before[:-1]), 0).sum())
        reached = int(before[-1])
    return covered / (end - begin)


def write_samples(folder: str | Path, samples: Samples) -> None:
    """Write a fresh samples folder: `train.npy`, `val.npy` and `meta.json`; of StrideWindows a `.json`, no `.npy`."""
    folder = fresh_folder(folder)
    for name, windows in (("train", samples.train), ("val", samples.val)):
        if isinstance(windows, StrideWindows):
            write_json(folder / f"{name}.json", asdict(windows))
        else:
            write_array(folder / f"{name}.npy", windows)
    meta = {
        "window_tokens": samples.window_tokens,
        "val_position": samples.val_position,
        "floor_nats": samples.floor_nats,
    }
    write_json(folder / "meta.json", meta)


def read_samples(folder: str | Path) -> Samples:
    """Read a samples folder; windows are memory-mapped or computed on access."""
    folder = Path(folder)
    meta = read_json(folder / "meta.json")
    return Samples(_read_windows(folder / "train"), _read_windows(folder / "val"), **meta)


def _read_windows(path: Path) -> WindowArray:
    """Read the windows that `write_samples` wrote under this name, which has no suffix."""
    by_stride = path.with_suffix(".json")
    if by_stride.exists():
        return StrideWindows(**read_json(by_stride))
    windows: np.ndarray = np.load(path.with_suffix(".npy"), mmap_mode="r")
    return windows


def validation_texts(
    raw_text_folder: str | Path, tokens: Tokens, samples: Samples, token_bytes: Sequence[int]
) -> list[str]:
    """Return the text of each document, or part of one, in the validation part, read from the raw text folder.

    `token_bytes` has the length in bytes of each token's text, by id. If the validation part begins inside a
    document, only the part inside is returned; a character that the cut divides becomes U+FFFD. UserError if
    the folder does not have the documents of `tokens`.
    """
    first = int(np.searchsorted(tokens.starts, samples.val_position, side="right")) - 1
    texts = [row["text"] for row in islice(read_raw_text(raw_text_folder), first, None)]
    expected = len(tokens.starts) - first
    if len(texts) != expected:
        path = Path(raw_text_folder) / DOCUMENTS_FILE
        rule = f"must have the {len(tokens.starts)} documents of the token file, got {first + len(texts)}"
        raise UserError(f"{path}: {rule}; run `dvc repro tokenize`")
    before = tokens.ids[tokens.starts[first] : samples.val_position]
    before_bytes = int(np.asarray(token_bytes, np.int64)[before].sum())
    texts[0] = texts[0].encode("utf-8")[before_bytes:].decode("utf-8", errors="replace")
    return texts
