"""The samples folder: the windows for training and validation, and the floor of the validation loss."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from llmcore.base.errors import UserError
from llmcore.base.files import fresh_folder, read_json, write_json
from llmcore.data.documents import DOCUMENTS_FILE, read_raw_text
from llmcore.data.mixture import epoch_quotas
from llmcore.data.tokens import Tokens, write_array
from llmcore.data.windows import (
    ConcatWindows,
    StrideWindows,
    WindowArray,
    concat_windows,
    cut_corpus,
    document_windows,
)

WINDOWS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class SampledSource:
    """A source of a mixture: its windows follow those of the source before, in training and in validation."""

    name: str
    train_windows: int
    train_tokens: int  # of all its training windows
    val_windows: int
    epoch_windows: int  # drawn in an epoch, by its weight


@dataclass(frozen=True)
class Samples:
    """Training and validation windows over one token file."""

    train: WindowArray  # each window has a place and a count
    val: WindowArray
    window_tokens: int
    val_positions: tuple[int, ...]  # of the first id of the validation part, one per source
    floor_nats: float | None  # -log p of the validation documents: no model's expected loss is lower; None: not known
    sources: tuple[SampledSource, ...] = ()  # of a mixture

    def floor_per(self, units: int) -> float | None:
        """Return the floor in nats per token, byte, ..., if the validation part has `units` of them."""
        return None if self.floor_nats is None else self.floor_nats / units

    @property
    def epoch_tokens(self) -> float:
        """The input tokens of an epoch, on average where it has not each window once."""
        if not self.sources:
            return float(self.train["count"].sum())
        return sum(source.train_tokens * source.epoch_windows / source.train_windows for source in self.sources)


def choose_samples(
    tokens: Tokens,
    *,
    window_tokens: int,
    stride_tokens: int,
    window_start: str,
    val_fraction: float,
    weights: Mapping[str, float] | None = None,
) -> Samples:
    """Divide the corpus into training and validation and choose the windows of both parts.

    `window_start` is "documents" or "stride"; validation windows never overlap. A mixture is divided source by source;
    `weights` are those of its sources in training, by name, their sizes where there are none. UserError if the
    corpus, or a source, is too short for a window in each part.
    """
    cuts = tuple(cut_corpus(tokens, val_fraction, begin, end) for _, begin, end in tokens.spans)

    def windows(begin: int, end: int, stride: int) -> WindowArray:
        if window_start == "documents":
            return document_windows(tokens, begin, end, window_tokens)
        return StrideWindows(begin, end, window_tokens, stride)

    train = [windows(span.begin, cut, stride_tokens) for span, cut in zip(tokens.spans, cuts, strict=True)]
    val = [windows(cut, span.end, window_tokens) for span, cut in zip(tokens.spans, cuts, strict=True)]
    for span, cut, *both in zip(tokens.spans, cuts, train, val, strict=True):
        total = span.end - span.begin
        if total <= window_tokens or not all(map(len, both)):
            of = f"source {span.name!r}" if span.name else "corpus"
            parts = f"{total} tokens, {cut - span.begin} of them for training and {span.end - cut} for validation"
            rule = f"must leave a window in each part of the {of} ({parts}), got {window_tokens}"
            raise UserError(f"sample.window_tokens {rule}; lower it, or add text")
    sources = tuple(_sampled_sources(tokens, train, val, weights or {})) if tokens.sources else ()
    floor = _floor(tokens, cuts) if window_start == "documents" else None
    return Samples(concat_windows(train), concat_windows(val), window_tokens, cuts, floor, sources)


def _sampled_sources(
    tokens: Tokens, train: Sequence[WindowArray], val: Sequence[WindowArray], weights: Mapping[str, float]
) -> Iterator[SampledSource]:
    names = [span.name for span in tokens.sources]
    if weights and sorted(weights) != sorted(names):
        raise UserError(
            f"sample.weights must name the sources {', '.join(names)}, got {', '.join(weights)}; correct it"
        )
    sizes = list(map(len, train))
    quotas = epoch_quotas(sizes, [weights[name] for name in names] if weights else sizes)
    for name, of_train, of_val, quota in zip(names, train, val, quotas, strict=True):
        if not quota:
            rule = f"must give each source a window of the {sum(sizes)} of an epoch, got {weights[name]}"
            raise UserError(f"sample.weights.{name} {rule}; raise it, lower the others, or take the source out")
        yield SampledSource(name, len(of_train), int(of_train["count"].sum()), len(of_val), quota)


def _floor(tokens: Tokens, cuts: Sequence[int]) -> float | None:
    """Return the -log p of the validation documents; None if not known, or if a cut is inside a document."""
    if tokens.document_nats is None or not np.isin(cuts, tokens.starts).all():
        return None
    return sum(
        float(tokens.document_nats[(tokens.starts >= cut) & (tokens.starts < span.end)].sum())
        for span, cut in zip(tokens.spans, cuts, strict=True)
    )


def coverage(windows: WindowArray, spans: Iterable[tuple[int, int]]) -> float:
    """Return the fraction of the ids in the spans `[begin, end)` that are a target of at least one window."""
    spans = list(spans)
    return sum(_covered(windows, *span) for span in spans) / sum(end - begin for begin, end in spans)


def _covered(windows: WindowArray, begin: int, end: int) -> int:
    covered = 0
    reached = begin  # all before is counted
    for at in range(0, len(windows), WINDOWS_AT_ONCE):  # in the order of their places
        chosen = windows[np.arange(at, min(at + WINDOWS_AT_ONCE, len(windows)))]
        first = np.clip(chosen["place"] + 1, begin, end)
        behind = np.clip(chosen["place"] + 1 + chosen["count"], begin, end)
        before = np.maximum.accumulate(np.append(reached, behind))
        covered += int(np.maximum(behind - np.maximum(first, before[:-1]), 0).sum())
        reached = int(before[-1])
    return covered


def write_samples(folder: str | Path, samples: Samples) -> None:
    """Write a fresh samples folder: `train.npy`, `val.npy` and `meta.json`; of windows by stride a `.json` each."""
    folder = fresh_folder(folder)
    for name, windows in (("train", samples.train), ("val", samples.val)):
        if isinstance(windows, StrideWindows):
            write_json(folder / f"{name}.json", asdict(windows))
        elif isinstance(windows, ConcatWindows):
            write_json(folder / f"{name}.json", list(map(asdict, windows.parts)))
        else:
            write_array(folder / f"{name}.npy", windows)
    meta: dict[str, Any] = {"window_tokens": samples.window_tokens, "floor_nats": samples.floor_nats}
    if samples.sources:
        meta |= {"val_positions": samples.val_positions, "sources": list(map(asdict, samples.sources))}
    else:
        meta["val_position"] = samples.val_positions[0]
    write_json(folder / "meta.json", meta)


def read_samples(folder: str | Path) -> Samples:
    """Read a samples folder; windows are memory-mapped or computed on access."""
    folder = Path(folder)
    meta = read_json(folder / "meta.json")
    return Samples(
        _read_windows(folder / "train"),
        _read_windows(folder / "val"),
        meta["window_tokens"],
        tuple(meta["val_positions"] if "sources" in meta else [meta["val_position"]]),
        meta["floor_nats"],
        tuple(SampledSource(**source) for source in meta.get("sources", [])),
    )


def _read_windows(path: Path) -> WindowArray:
    """Read the windows that `write_samples` wrote under this name, which has no suffix."""
    by_stride = path.with_suffix(".json")
    if by_stride.exists():
        values = read_json(by_stride)
        return concat_windows([StrideWindows(**part) for part in (values if isinstance(values, list) else [values])])
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
    texts: list[str] = []
    count = 0
    rows = read_raw_text(raw_text_folder)
    for span, position in zip(tokens.spans, samples.val_positions, strict=True):
        first = int(np.searchsorted(tokens.starts, position, side="right")) - 1
        behind = int(np.searchsorted(tokens.starts, span.end))
        before = tokens.ids[tokens.starts[first] : position]
        before_bytes = int(np.asarray(token_bytes, np.int64)[before].sum())
        count += sum(1 for _ in islice(rows, first - count))
        here = [row["text"] for row in islice(rows, behind - first)]
        count += len(here)
        texts += [text.encode("utf-8")[before_bytes:].decode("utf-8", errors="replace") for text in here[:1]] + here[1:]
    count += sum(1 for _ in rows)
    if count != len(tokens.starts):
        path = Path(raw_text_folder) / DOCUMENTS_FILE
        rule = f"must have the {len(tokens.starts)} documents of the token file, got {count}"
        raise UserError(f"{path}: {rule}; run `dvc repro tokenize`")
    return texts
