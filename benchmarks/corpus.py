"""Text to batches: tokenizing 100 MB beside tiktoken and tokenizers, the first batch of 10M tokens beside the book's.

    python -m benchmarks.corpus

The text is the built-in world's, its vocabulary learned from it. The first batch is what a training does before its
first step: it opens the token file and the windows, one at each token, and computes the rows of step 0. The book's way
(chapter 2.6) copies every window into a list; it is measured on 200,000 tokens, for more would not fit.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import tokenizers

from benchmarks.side_by_side import Row, named, take_turns, tell
from llmcore.base.files import write_jsonl
from llmcore.base.process import usable_cores
from llmcore.data.samples import choose_samples, write_samples
from llmcore.data.token_shards import corpus_parts
from llmcore.data.tokens import Document, open_tokens, write_tokens
from llmcore.data.world.stories import write_stories
from llmcore.run.encode import encode_parts
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.byte_level import to_characters
from llmcore.tokenizer.train import train_tokenizer

MEGABYTES, ROUNDS = 100, 1
PART_BYTES = 8 << 20  # so that there are parts for many cores
TEXTS_PER_CALL = 10_000  # of the Rust library, which keeps more than ids of each
CORPUS_TOKENS, BOOK_TOKENS, ROW_TOKENS = 10_000_000, 200_000, 256
OURS = """
from pathlib import Path
from llmcore.data.order import Order
from llmcore.base.files import write_jsonl
from llmcore.base.process import usable_cores
from llmcore.data.samples import read_samples
from llmcore.data.token_shards import corpus_parts
from llmcore.data.tokens import open_tokens
from llmcore.data.windows import Windows
windows = Windows(open_tokens(Path(sys.argv[1])), read_samples(Path(sys.argv[1], "samples")).train)
windows.rows(Order(len(windows), 8, 0, windows.windows["count"]).batch(0))
"""
THE_BOOK = """
import torch
ids = np.fromfile(sys.argv[1] + "/tokens.bin", "<u2").tolist()
begin, before = time.perf_counter(), resident()
inputs, targets = [], []
for i in range(0, len(ids) - {length}, 1):
    inputs.append(torch.tensor(ids[i:i + {length}]))
    targets.append(torch.tensor(ids[i + 1:i + {length} + 1]))
"""
MEASURED = """
import json, sys, time
import numpy as np, psutil
resident = lambda: psutil.Process().memory_info().rss
begin, before = time.perf_counter(), resident()
{body}
print(json.dumps([time.perf_counter() - begin, (resident() - before) / 1e6]))
"""


def tokenizing() -> Row:
    stories = [story.text for story in write_stories(3000, 1)]
    tokenizer = train_tokenizer(iter(stories), 512)
    size = sum(len(story) for story in stories)
    texts = list(islice(cycle(stories), MEGABYTES * 1_000_000 * len(stories) // size))
    rust = rust_tokenizer(tokenizer)
    cores = usable_cores()

    def tiktokens() -> None:
        for ids in tokenizer._encoding.encode_ordinary_batch(texts, num_threads=cores):
            np.array(ids, "<u2").tobytes()  # as it goes into the file

    def rusts() -> None:
        for begin in range(0, len(texts), TEXTS_PER_CALL):
            for encoding in rust.encode_batch_fast(texts[begin : begin + TEXTS_PER_CALL]):
                np.array(encoding.ids, "<u2").tobytes()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save(folder)
        write_jsonl(folder / "documents.jsonl", ({"text": text} for text in texts))

        def ours() -> None:
            parts = corpus_parts(folder, folder / "parts", PART_BYTES)
            list(encode_parts(folder, folder, parts, "auto"))

        peers = {named("tiktoken"): tiktokens, named("tokenizers"): rusts}
        seconds = take_turns({"ours": ours, **peers}, rounds=ROUNDS)
    rates = {name: MEGABYTES / each for name, each in seconds.items()}
    return Row(
        f"tokenizing {MEGABYTES} MB on {cores} cores",
        "MB/s",
        rates.pop("ours"),
        rates,
        goal="1 x",
        limit="ours reads a file, starts its processes and writes shards; the peers have the texts in memory",
    )


def rust_tokenizer(ours: BytePairTokenizer) -> tokenizers.Tokenizer:
    """Return the same tokenizer as the Rust library has it."""
    vocab = {to_characters(token): rank for token, rank in ours.ranks.items()}
    merges = [(to_characters(left), to_characters(right)) for left, right in ours.merges]
    rust = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, merges))
    rust.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    text = "Mia and Tom had a red kite, and 3 cats."
    assert rust.encode(text).ids == ours.encode(text)
    return rust


def first_batch() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder, "large"), Path(folder, "small")
        write_corpus(large, CORPUS_TOKENS)
        write_corpus(small, BOOK_TOKENS)
        seconds, megabytes = measured(OURS, large)
        book_seconds, book_megabytes = measured(THE_BOOK, small)
    ours = f"{CORPUS_TOKENS:,} tokens, stride 1"
    book = f"the book's lists, {BOOK_TOKENS:,} tokens"
    return [
        Row(f"first batch, {ours}", "seconds", seconds, {book: book_seconds}, more_is_better=False, goal="below 0.1"),
        Row(f"memory of it, {ours}", "MB", megabytes, {book: book_megabytes}, more_is_better=False, goal="below 50"),
    ]


def write_corpus(folder: Path, tokens: int) -> None:
    """Write random documents as `tokenize` does, and as `sample` does a window at each token."""
    draw = np.random.default_rng(0)
    documents = (Document(draw.integers(0, 511, 1000).tolist()) for _ in range(tokens // 1001 + 1))
    write_tokens(folder, documents, end_of_text=511, tokenizer="none")
    chosen = choose_samples(
        open_tokens(folder), window_tokens=ROW_TOKENS, stride_tokens=1, window_start="stride", val_fraction=0.05
    )
    write_samples(folder / "samples", chosen)


def measured(body: str, folder: Path) -> tuple[float, float]:
    """Return seconds and more resident megabytes that an interpreter with numpy has after `body`."""
    script = MEASURED.replace("{body}", body).replace("{length}", str(ROW_TOKENS))
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
    seconds, megabytes = json.loads(done.stdout)
    return seconds, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    begin = time.perf_counter()
    tell([tokenizing(), *first_batch()])
    print(f"{time.perf_counter() - begin:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
