"""The samples folder: which windows train, which validate, and the floor of the validation loss."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmcore.base.errors import UserError
from llmcore.base.files import fresh_folder, read_json, write_json
from llmcore.data.tokens import Tokens, write_array
from llmcore.data.windows import cut_corpus, document_windows, stride_windows


@dataclass(frozen=True)
class Samples:
    """Training and validation windows over one token file.

    `val_position` is the first id of the validation part. `floor_nats` is -log p of the validation
    documents, where the built-in world knows it: the least loss, summed over the validation targets,
    that can be expected of any model.
    """

    train: np.ndarray
    val: np.ndarray
    window_tokens: int
    val_position: int
    floor_nats: float | None

    def floor_per(self, units: int) -> float | None:
        """Return the floor of the loss in nats per token, byte, ... where validation has `units` of them."""
        return None if self.floor_nats is None else self.floor_nats / units


def choose_samples(
    tokens: Tokens, *, window_tokens: int, stride_tokens: int, starts: str, val_fraction: float
) -> Samples:
    """Split the corpus and choose windows in both parts; those of validation do not overlap.

    UserError if the corpus is too short: it says how many tokens there are and what to lower.
    """
    total = len(tokens.ids)
    cut = cut_corpus(tokens, val_fraction)
    if starts == "documents":
        train = document_windows(tokens, 0, cut, window_tokens)
        val = document_windows(tokens, cut, total, window_tokens)
    else:
        train = stride_windows(0, cut, window_tokens, stride_tokens)
        val = stride_windows(cut, total, window_tokens, window_tokens)
    if total <= window_tokens or not len(train) or not len(val):
        parts = f"{total} tokens, {cut} of them for training and {total - cut} for validation"
        rule = f"must leave a window in each part of the corpus ({parts}), got {window_tokens}"
        raise UserError(f"sample.window_tokens {rule}; lower it, or give more text")
    return Samples(train, val, window_tokens, cut, _floor(tokens, cut) if starts == "documents" else None)


def _floor(tokens: Tokens, cut: int) -> float | None:
    """Return the -log p of the documents from `cut` on, if it is known and `cut` is a boundary."""
    if tokens.document_nats is None or cut not in tokens.starts:
        return None
    return float(tokens.document_nats[tokens.starts >= cut].sum())


def coverage(tokens: Tokens, windows: np.ndarray, begin: int, end: int) -> float:
    """Return the share of the ids in `[begin, end)` that are a target of some window."""
    changes = np.zeros(len(tokens.ids) + 2, np.int64)  # +1 where a window's targets begin, -1 behind its last
    np.add.at(changes, windows["place"] + 1, 1)
    np.add.at(changes, windows["place"] + 1 + windows["count"], -1)
    return float((changes.cumsum()[begin:end] > 0).mean())


def write_samples(folder: str | Path, samples: Samples) -> None:
    """Write `train.npy`, `val.npy` and `meta.json`."""
    folder = fresh_folder(folder)
    for name, windows in (("train", samples.train), ("val", samples.val)):
        write_array(folder / f"{name}.npy", windows)
    meta = {
        "window_tokens": samples.window_tokens,
        "val_position": samples.val_position,
        "floor_nats": samples.floor_nats,
    }
    write_json(folder / "meta.json", meta)


def read_samples(folder: str | Path) -> Samples:
    """Read what `write_samples` wrote; the windows stay on disk, memory-mapped."""
    folder = Path(folder)
    meta = read_json(folder / "meta.json")
    train, val = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("train", "val"))
    return Samples(train, val, **meta)


def validation_documents(tokens: Tokens, samples: Samples) -> list[list[int]]:
    """Return the ids of each document, or part of one, in the validation part."""
    ids = tokens.ids[samples.val_position :]
    starts = tokens.starts[tokens.starts > samples.val_position] - samples.val_position
    ends = [*(starts - 1), len(ids)]  # before each closing end-of-text
    return [ids[begin:end].tolist() for begin, end in zip([0, *starts], ends, strict=True)]
