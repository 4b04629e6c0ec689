"""Download. in: network, mirror, own file or the world | params: sources.<item> | out: data/raw/<item>, metrics."""

import functools
import time
from pathlib import Path

from llmcore.base.files import fresh_folder, sha256_folder, write_json
from llmcore.base.project import project_root
from llmcore.config.read import read_params
from llmcore.config.sources import SourcesParams
from llmcore.data.download import fetch
from llmcore.data.meta import check_counts
from llmcore.data.published import Fetch, Meta
from llmcore.data.raw import write_raw_instructions, write_raw_spam, write_raw_text, write_raw_tokenizer
from llmcore.data.raw_mixture import write_raw_mixture
from llmcore.tracking.run import tracked_run

COUNTS = ("bytes", "documents", "rows", "equal_documents", "near_duplicates")


def main(argv: list[str]) -> None:
    item, out, metrics_path = argv
    params = read_params()
    get = functools.partial(fetch, scratch=project_root() / ".ckpt" / "download", progress=params.runtime.progress)
    with tracked_run(f"download@{item}", params) as tracker:
        started = time.perf_counter()
        meta = write_raw(params.sources, item, fresh_folder(out), get)
        check_promise(params.sources, item, meta)
        metrics: dict[str, float] = {key: meta[key] for key in COUNTS if key in meta}
        for source in meta.get("sources", []):
            metrics |= {f"source/{source['name']}/{key}": source[key] for key in ("documents", "bytes")}
        write_json(metrics_path, metrics)
        tracker.log_metrics(metrics | {"seconds": time.perf_counter() - started})
        tracker.log_input(item, meta["kind"], sha256_folder(out))


def check_promise(sources: SourcesParams, item: str, meta: Meta) -> None:
    """UserError unless the built-in world wrote as much as params.yaml asks for."""
    source = getattr(sources, item)
    if source.kind == "world":
        asked = {"documents": source.stories} if item == "text" else {"rows": source.rows}
        if item == "text" and source.near_duplicates == "drop":
            asked["documents"] -= meta["near_duplicates"]
        check_counts(f"params.yaml: sources.{item}", asked, **{key: meta[key] for key in asked})


def write_raw(sources: SourcesParams, item: str, folder: Path, get: Fetch) -> Meta:
    """Write the raw folder of one item."""
    if item == "text":
        text = sources.text
        if text.kind == "mixture":
            parts = [part.model_dump() for part in text.parts]
            return write_raw_mixture(folder, Path(text.path), parts, get, near_duplicates=text.near_duplicates)
        return write_raw_text(
            folder,
            text.kind,
            Path(text.path),
            text.stories,
            text.seed,
            get,
            files=text.files,
            text_column=text.text_column,
            near_duplicates=text.near_duplicates,
        )
    if item == "spam":
        spam = sources.spam
        return write_raw_spam(folder, spam.kind, Path(spam.path), spam.rows, spam.seed, get)
    if item == "instructions":
        instructions = sources.instructions
        return write_raw_instructions(
            folder, instructions.kind, Path(instructions.path), instructions.rows, instructions.seed, get
        )
    return write_raw_tokenizer(folder, sources.tokenizer.kind, Path(sources.tokenizer.path), get)
