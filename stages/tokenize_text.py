"""Tokenize. in: data/raw/text, data/raw/tokenizer | params: tokenizer | out: data/tokenizer, data/tokens, metrics."""

import time
from collections.abc import Iterator
from pathlib import Path

from llmcore.base.files import fresh_folder, read_json, read_jsonl, sha256_folder, write_json
from llmcore.base.origin import read_source, write_source
from llmcore.base.progress import bar
from llmcore.config.params import Tokenizer as TokenizerSection
from llmcore.config.params import read_params
from llmcore.data.tokens import write_tokens
from llmcore.tokenizer.bpe import Tokenizer, fingerprint, load_tokenizer
from llmcore.tokenizer.train import train_tokenizer
from llmcore.tracking import tracker as tracking


def main(argv: list[str]) -> None:
    raw_text, raw_tokenizer, tokenizer_out, tokens_out, metrics_file = map(Path, argv)
    params = read_params()
    raw = read_json(raw_text / "meta.json")
    with tracking.run("tokenize", params, ["tokenizer"]) as tracker:
        tracker.log_dataset("text", raw["kind"], sha256_folder(raw_text))
        started = time.perf_counter()
        tokenizer = make_tokenizer(params.tokenizer, raw_text, raw_tokenizer)
        tokenizer.save(fresh_folder(tokenizer_out))
        trained = time.perf_counter()

        nats = [row["nats"] for row in read_jsonl(raw_text / "documents.jsonl") if "nats" in row]
        encoded = tokenizer.encode_stream(texts(raw_text))
        documents = bar(encoded, "tokenize", raw["documents"], "document", enabled=params.runtime.progress)
        meta = write_tokens(
            tokens_out,
            documents,
            nats or None,
            end_of_text=tokenizer.end_of_text,
            tokenizer=fingerprint(tokenizer_out),
        )
        write_source(tokens_out, read_source(raw_text))
        seconds = time.perf_counter() - trained

        counts = {"documents": meta["documents"], "bytes": raw["bytes"], "tokens": meta["tokens"]}
        metrics = counts | {"vocab_size": tokenizer.vocab_size, "bytes_per_token": raw["bytes"] / meta["tokens"]}
        write_json(metrics_file, metrics)
        speed = {"training_seconds": trained - started, "encoding_mb_per_second": raw["bytes"] / 1e6 / seconds}
        tracker.log_metrics(metrics | speed)


def make_tokenizer(section: TokenizerSection, raw_text: Path, raw_tokenizer: Path) -> Tokenizer:
    """Learn the vocabulary from the text, or take the given one."""
    if section.kind == "trained":
        return train_tokenizer(texts(raw_text), section.vocab_size)
    return load_tokenizer(raw_tokenizer)


def texts(raw_text: Path) -> Iterator[str]:
    return (row["text"] for row in read_jsonl(raw_text / "documents.jsonl"))
