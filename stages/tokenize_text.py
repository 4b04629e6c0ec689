"""Tokenize. in: data/raw/text, data/raw/tokenizer | params: tokenizer | out: data/tokenizer, data/tokens, metrics."""

import time
from pathlib import Path

from llmcore.base.files import fresh_folder, read_json, sha256_folder, write_json
from llmcore.base.origin import read_source, write_source
from llmcore.config.params import TokenizerParams
from llmcore.config.read import read_params
from llmcore.data.documents import read_raw_text, sample_raw_text
from llmcore.data.meta import META_FILE, check_counts
from llmcore.data.source_spans import write_spans
from llmcore.data.tokens import open_tokens
from llmcore.run.encode import encode_corpus
from llmcore.tokenizer.bpe import BytePairTokenizer, load_byte_pair_tokenizer
from llmcore.tokenizer.train import train_tokenizer
from llmcore.tracking.run import tracked_run


def main(argv: list[str]) -> None:
    raw_text, raw_tokenizer, tokenizer_out, tokens_out, metrics_file = map(Path, argv)
    params = read_params()
    raw = read_json(raw_text / META_FILE)
    text_sha256 = sha256_folder(raw_text)
    with tracked_run("tokenize", params) as tracker:
        tracker.log_input("text", raw["kind"], text_sha256)
        started = time.perf_counter()
        tokenizer = make_tokenizer(params.tokenizer, raw_text, raw["bytes"], raw_tokenizer)
        tokenizer.save(fresh_folder(tokenizer_out))
        trained = time.perf_counter()
        meta = encode_corpus(
            raw_text,
            text_sha256,
            tokenizer_out,
            tokens_out,
            processes=params.runtime.processes,
            progress=params.runtime.progress,
        )
        check_counts(raw_text / META_FILE, raw, documents=meta["documents"])
        write_source(tokens_out, read_source(raw_text))
        seconds = time.perf_counter() - trained
        metrics: dict[str, float] = {
            "documents": meta["documents"],
            "bytes": raw["bytes"],
            "tokens": meta["tokens"],
            "vocab_size": tokenizer.vocab_size,
            "bytes_per_token": raw["bytes"] / meta["tokens"],
        }
        if "sources" in raw:
            documents = {source["name"]: source["documents"] for source in raw["sources"]}
            by_source = write_spans(tokens_out, documents, open_tokens(tokens_out).starts, meta["tokens"])
            metrics |= {f"source/{name}/tokens": count for name, count in by_source.items()}
        write_json(metrics_file, metrics)
        speed = {"training_seconds": trained - started, "encoding_mb_per_second": raw["bytes"] / 1e6 / seconds}
        tracker.log_metrics(metrics | speed)


def make_tokenizer(params: TokenizerParams, raw_text: Path, text_bytes: int, raw_tokenizer: Path) -> BytePairTokenizer:
    """Learn the vocabulary from the text, or from a sample of its documents, or take the given one."""
    if params.kind == "given":
        return load_byte_pair_tokenizer(raw_tokenizer)
    if 0 < params.sample_bytes < text_bytes:
        rows = sample_raw_text(raw_text, params.sample_bytes / text_bytes, params.sample_seed)
    else:
        rows = read_raw_text(raw_text)
    return train_tokenizer((row["text"] for row in rows), params.vocab_size)
