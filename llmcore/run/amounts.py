"""How much data the stages have: as the last build counted it, or estimated from params.yaml where it does not hold."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, read_jsonl
from llmcore.config.params import Params
from llmcore.config.sources import LocalPart, TextSource, TheVerdictPart, WorldPart
from llmcore.config.stages import report_folder
from llmcore.data.documents import DOCUMENTS_FILE, read_raw_text
from llmcore.data.reading import read_alpaca, read_table
from llmcore.data.sources import THE_VERDICT
from llmcore.data.text_files import COMPRESSIONS, iter_documents, text_files
from llmcore.data.world.instructions import write_instructions
from llmcore.data.world.messages import write_messages
from llmcore.data.world.stories import write_stories
from llmcore.run.measure import Sample

SAMPLE_BYTES = 1_000_000  # of text
SAMPLE_DOCUMENTS = 2_000
SAMPLE_ROWS = 1_500
GPT2_VOCAB_SIZE = 50_257
PUBLISHED_ROWS = {"sms-spam": 5_574, "book": 1_100}
STAND_IN = "measured on the built-in world's until it is here"
WORLD_SHARES = {"val": 0.05, "test": 0.15}  # instructions.split given: as the built-in world splits its rows

OneSource = TextSource | WorldPart | TheVerdictPart | LocalPart  # of text


@dataclass(frozen=True)
class Amounts:
    """Numbers of bytes, documents and rows, and where each group comes from; a count that is None is measured later."""

    text_bytes: int
    documents: int
    tokens: int | None
    tokens_of_parts: dict[str, int]  # of a mixture, by name
    train_windows: int | None
    epoch_tokens: float | None  # inputs of an epoch
    val_windows: int | None
    spam: dict[str, int]  # rows of train, val, test
    instructions: dict[str, int]
    sources: dict[str, str]  # text, spam, instructions -> where the numbers come from


def amounts(params: Params, holds: Callable[[str], bool]) -> Amounts:
    """Return the amounts; `holds` says whether the results of a stage hold for these params."""
    text, of_text = _text(params, holds)
    spam, of_spam = _rows(params, holds, "spam")
    instructions, of_instructions = _rows(params, holds, "instructions")
    sources = {"text": of_text, "spam": of_spam, "instructions": of_instructions}
    return Amounts(**text, spam=spam, instructions=instructions, sources=sources)


def sample_rows(params: Params, holds: Callable[[str], bool]) -> Sample:
    """Return rows that stand for all: of the data on disk, of your own files, or of the built-in world."""
    text = Path("data/raw/text")
    if holds("download@text") and (text / DOCUMENTS_FILE).exists():
        texts = [row["text"] for row in islice(read_raw_text(text), SAMPLE_DOCUMENTS)]
    elif own := [source for source in _sources(params.sources.text) if source.kind == "local"]:
        path = Path(params.sources.text.path)
        texts = list(islice(chain.from_iterable(_own_texts(source, path) for source in own), SAMPLE_DOCUMENTS))
    else:
        texts = [story.text for story in write_stories(SAMPLE_DOCUMENTS, params.sources.text.seed)]
    return Sample(
        _within(texts, SAMPLE_BYTES),
        _labelled(params, holds)[:SAMPLE_ROWS],
        _instructions(params, holds)[:SAMPLE_ROWS],
        **_tokenizer(params, holds),
    )


def _tokenizer(params: Params, holds: Callable[[str], bool]) -> dict[str, Any]:
    """Return the folder of pretraining's tokenizer, None if it is not here, and its number of tokens where known."""
    source = params.sources.tokenizer
    if holds("tokenize") and Path("data/tokenizer/vocab.json").exists():
        return {"tokenizer": "data/tokenizer", "vocab_size": None}
    if params.tokenizer.kind == "trained":
        return {"tokenizer": None, "vocab_size": None}
    if source.kind == "local":
        return {"tokenizer": source.path, "vocab_size": None}
    return {"tokenizer": None, "vocab_size": GPT2_VOCAB_SIZE}


def metrics_of(stage: str) -> dict[str, Any]:
    """Return the metrics of a stage's last build, none if there was none."""
    try:
        found = read_json(Path("reports") / report_folder(stage) / "metrics.json")
    except (OSError, UserError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(params: Params, holds: Callable[[str], bool]) -> tuple[dict[str, Any], str]:
    text = params.sources.text
    counted = metrics_of("tokenize") if holds("tokenize") else {}
    windows = metrics_of("sample") if holds("sample") else {}
    known = {key: windows.get(key) for key in ("train_windows", "val_windows")}
    known["epoch_tokens"] = windows.get("epoch_tokens", windows.get("train_tokens"))
    if counted:
        of_parts = {name: counted[f"source/{name}/tokens"] for name in text.part_names}
        numbers = {"text_bytes": counted["bytes"], "documents": counted["documents"], "tokens": counted["tokens"]}
        return numbers | known | {"tokens_of_parts": of_parts}, "counted by the last build"
    found = [_estimated(source, Path(text.path)) for source in _sources(text)]
    numbers = {"text_bytes": sum(size for size, _, _ in found), "documents": sum(count for _, count, _ in found)}
    nothing = dict.fromkeys(("tokens", "train_windows", "epoch_tokens", "val_windows"))
    return numbers | nothing | {"tokens_of_parts": {}}, "; ".join(dict.fromkeys(origin for _, _, origin in found))


def _sources(text: TextSource) -> Sequence[OneSource]:
    return text.parts if text.kind == "mixture" else [text]


def _estimated(source: OneSource, path: Path) -> tuple[int, int, str]:
    """Return a source's bytes and documents, and where these numbers come from; `path` is that of the text."""
    if source.kind == "local":
        sample = [text.encode("utf-8") for text in islice(_own_texts(source, path), SAMPLE_DOCUMENTS)]
        sizes = list(map(len, sample))
        if len(sizes) < SAMPLE_DOCUMENTS:
            return sum(sizes), len(sizes), f"read from {path}"
        mean, text = sum(sizes) / len(sizes), b"\n".join(sample)
        ratio = len(text) / len(zlib.compress(text))
        documents = round(sum(_documents_in(file, mean, ratio) for file in text_files(path, source.files)[0]))
        return round(documents * mean), documents, f"estimated from the files of {path}"
    if source.kind == "world":
        stories = write_stories(SAMPLE_DOCUMENTS, source.seed)
        mean = sum(len(story.text.encode("utf-8")) for story in stories) / len(stories)
        return round(mean * source.stories), source.stories, "estimated from params"
    assert THE_VERDICT.size_bytes
    return THE_VERDICT.size_bytes, 1, f"size as published, {STAND_IN}"


def _documents_in(file: Path, mean_bytes: float, ratio: float) -> float:
    """Estimate the documents of a file by its size; `ratio` is that of text to its compressed form."""
    if file.suffix.lower() == ".parquet":
        from pyarrow.parquet import read_metadata

        return float(read_metadata(file).num_rows)
    text_bytes = file.stat().st_size * (ratio if file.suffix.lower() in COMPRESSIONS else 1.0)
    return text_bytes / mean_bytes


def _rows(params: Params, holds: Callable[[str], bool], name: str) -> tuple[dict[str, int], str]:
    counted = metrics_of(f"prepare_{name}") if holds(f"prepare_{name}") else {}
    if counted:
        return {split: counted[f"{split}_rows"] for split in ("train", "val", "test")}, "counted by the last build"
    source = getattr(params.sources, name)
    section = getattr(params, name)
    total = PUBLISHED_ROWS.get(source.kind, source.rows)
    if source.kind == "local":
        total = len(_labelled(params, holds) if name == "spam" else _instructions(params, holds))
    given = name == "instructions" and section.split == "given" and source.kind == "world"
    val, test = WORLD_SHARES.values() if given else (section.val_fraction, section.test_fraction)
    rows = {"val": round(total * val), "test": round(total * test)}
    rows = {"train": total - sum(rows.values()), **rows}
    if source.kind in PUBLISHED_ROWS:
        return rows, f"number as published, {STAND_IN}"
    return rows, "estimated from params"


def _labelled(params: Params, holds: Callable[[str], bool]) -> list[dict[str, str]]:
    prepared = Path("data/spam/train.jsonl")
    if holds("prepare_spam") and prepared.exists():
        return list(islice(read_jsonl(prepared), SAMPLE_ROWS))
    source, section = params.sources.spam, params.spam
    if source.kind == "local" and Path(source.path).is_file():
        table = read_table(Path(source.path), columns=(section.text_column, section.label_column))
        pairs = zip(table[section.text_column], table[section.label_column], strict=True)
        return [{"text": text, "label": label} for text, label in pairs if text.strip() and label.strip()]
    return [{"text": row.text, "label": row.label} for row in write_messages(SAMPLE_ROWS, source.seed)]


def _instructions(params: Params, holds: Callable[[str], bool]) -> list[dict[str, str]]:
    prepared = Path("data/instructions/train.jsonl")
    keys = ("instruction", "input", "output")
    if holds("prepare_instructions") and prepared.exists():
        return [{key: row[key] for key in keys} for row in islice(read_jsonl(prepared), SAMPLE_ROWS)]
    source = params.sources.instructions
    if source.kind == "local":
        return [{key: str(row.get(key, "")) for key in keys} for row in read_alpaca(Path(source.path))]
    return [{key: getattr(row, key) for key in keys} for row in write_instructions(SAMPLE_ROWS, source.seed)]


def _own_texts(source: TextSource | LocalPart, path: Path) -> Iterator[str]:
    """Yield the documents of the user's own text at `path`."""
    for file in text_files(path, source.files)[0]:
        yield from iter_documents(file, source.text_column)


def _within(texts: list[str], most_bytes: int) -> list[str]:
    """Return the texts up to a total length, the first one cut if it alone is longer."""
    kept: list[str] = []
    for text in texts:
        room = most_bytes - sum(map(len, kept))
        if room <= 0:
            break
        kept.append(text[:room])
    return kept
