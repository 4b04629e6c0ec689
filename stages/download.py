"""Download. in: network, mirror, own file or the world | params: sources.<item> | out: data/raw/<item>, metrics."""

import functools
import time
from pathlib import Path

from llmcore.base.files import fresh_folder, sha256_folder, write_json
from llmcore.base.project import project_root
from llmcore.config.params import Sources, TokenizerSource, read_params
from llmcore.data.download import fetch
from llmcore.data.published import Get, Meta
from llmcore.data.raw import fill_instructions, fill_spam, fill_text, fill_tokenizer
from llmcore.tracking import tracker as tracking

FILL = {"text": fill_text, "spam": fill_spam, "instructions": fill_instructions}
COUNTS = ("bytes", "documents", "rows")


def main(argv: list[str]) -> None:
    item, out, metrics_path = argv
    params = read_params()
    scratch = project_root() / ".ckpt" / "download"
    get = functools.partial(fetch, scratch=scratch, progress=params.runtime.progress)
    with tracking.run(f"download@{item}", params, [f"sources.{item}"]) as tracker:
        started = time.perf_counter()
        meta = fill(params.sources, item, fresh_folder(out), get)
        metrics: dict[str, float] = {key: meta[key] for key in COUNTS if key in meta}
        write_json(metrics_path, metrics)
        tracker.log_metrics(metrics | {"seconds": time.perf_counter() - started})
        tracker.log_dataset(item, meta["kind"], sha256_folder(out))


def fill(sources: Sources, item: str, folder: Path, get: Get) -> Meta:
    source = getattr(sources, item)
    if isinstance(source, TokenizerSource):
        return fill_tokenizer(folder, source.kind, Path(source.path), get)
    return FILL[item](folder, source.kind, Path(source.path), source.size, source.seed, get)
