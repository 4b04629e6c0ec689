"""Tokenize a corpus with a pool of processes, whose number changes no byte. A killed run keeps the parts it wrote."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llmcore.base.errors import UserError
from llmcore.base.process import usable_cores
from llmcore.base.progress import Bar
from llmcore.data.token_shards import SHARD_BYTES, Part, corpus_parts, is_written, join_parts, write_part
from llmcore.dvc.files import code_hashes
from llmcore.dvc.parent import end_with_ancestor
from llmcore.tokenizer.bpe import BytePairTokenizer, fingerprint, load_byte_pair_tokenizer
from llmcore.train.key import Parts
from llmcore.train.scratch import locked_scratch


def encode_corpus(
    raw_text: Path,
    text_sha256: str,
    tokenizer: Path,
    out: Path,
    *,
    processes: int | str,
    progress: bool,
    part_bytes: int = SHARD_BYTES,
) -> dict[str, Any]:
    """Write the token folder of a raw text folder, whose hash is given, and return its meta.

    `processes` may be "auto": one per core at hand. Parts that a killed run has written are not written again.
    """
    inputs = {"text": text_sha256, "tokenizer": fingerprint(tokenizer)}
    key: Parts = {"inputs": inputs, "code": code_hashes("tokenize"), "params": {"part_bytes": part_bytes}}
    with ExitStack() as stack:
        scratch = stack.enter_context(locked_scratch("tokenize", key))
        folder = scratch.folder or Path(stack.enter_context(TemporaryDirectory(dir=out.parent)))
        parts = corpus_parts(raw_text, folder / scratch.training, part_bytes)
        waiting = [part for part in parts if not is_written(part)]
        done = sum(part.end - part.begin for part in parts if part not in waiting)
        with Bar("tokenize", parts[-1].end, "B", enabled=progress, initial=done) as bar:
            for part in encode_parts(raw_text, tokenizer, waiting, processes):
                bar.advance(part.end - part.begin)
        return join_parts(out, parts)


def encode_parts(raw_text: Path, tokenizer: Path, parts: list[Part], processes: int | str) -> Iterator[Part]:
    """Yield each part when it is written."""
    encode = partial(encode_part, raw_text, tokenizer)
    count = min(usable_cores() if processes == "auto" else int(processes), len(parts))
    if count <= 1:
        yield from map(encode, parts)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the tracker's threads
    with ProcessPoolExecutor(count, context, _begin_worker, (os.getpid(),)) as pool:
        try:
            for future in as_completed([pool.submit(encode, part) for part in parts]):
                yield future.result()
        except BrokenProcessPool:
            remedy = "if memory is short, lower runtime.processes"
            raise UserError(f"tokenize: a process was ended from outside; {remedy}, and run again to go on") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def encode_part(raw_text: Path, tokenizer: Path, part: Part) -> Part:
    """Write the token folder of one part."""
    name = fingerprint(tokenizer)
    loaded = _load(tokenizer, name)
    write_part(raw_text, part, loaded.encode, end_of_text=loaded.end_of_text, tokenizer=name)
    return part


def _begin_worker(first_pid: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches all; the first process says so
    end_with_ancestor(first_pid)


@lru_cache(maxsize=1)
def _load(folder: Path, _fingerprint: str) -> BytePairTokenizer:
    return load_byte_pair_tokenizer(folder)
