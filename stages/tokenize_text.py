"""Tokenize. in: data/raw/text, data/raw/tokenizer | params: tokenizer | out: data/tokenizer, data/tokens, metrics."""

import time
from pathlib import Path

from llmcore.base.files import fresh_folder, read_json, sha256_folder, write_json
from llmcore.base.origin import read_source, write_source
from llmcore.base.progress import bar
from llmcore.config.params import TokenizerParams
from llmcore.config.read import read_params
from llmcore.data.documents import read_raw_text
from llmcore.data.meta import META_FILE, check_counts
from llmcore.data.tokens import encode_documents, write_tokens
from llmcore.tokenizer.bpe import BytePairTokenizer, fingerprint, load_byte_pair_tokenizer
from llmcore.tokenizer.train import train_tokenizer
from llmcore.tracking.run import tracked_run


def main(argv: list[str]) -> None:
    raw_text, raw_tokenizer, tokenizer_out, tokens_out, metrics_file = map(Path, argv)
    params = read_params()
    raw = read_json(raw_text / META_FILE)
    with tracked_run("tokenize", params) as tracker:
        tracker.log_input("text", raw["kind"], sha256_folder(raw_text))
        started = time.perf_counter()
        tokenizer = make_tokenizer(params.tokenizer, raw_text, raw_tokenizer)
        tokenizer.save(fresh_folder(tokenizer_out))
        trained = time.perf_counter()
        encoded = encode_documents(read_raw_text(raw_text), tokenizer.encode_stream)
        meta = write_tokens(
            tokens_out,
            bar(encoded, "tokenize", raw["documents"], "document", enabled=params.runtime.progress),
            end_of_text=tokenizer.end_of_text,
            tokenizer=fingerprint(tokenizer_out),
        )
        check_counts(raw_text / META_FILE, raw, documents=meta["documents"])
        write_source(tokens_out, read_source(raw_text))
        seconds = time.perf_counter() - trained
        metrics = {
            "documents": meta["documents"],
            "bytes": raw["bytes"],
            "tokens": meta["tokens"],
            "vocab_size": tokenizer.vocab_size,
            "bytes_per_token": raw["bytes"] / meta["tokens"],
        }
        write_json(metrics_file, metrics)
        speed = {"training_seconds": trained - started, "encoding_mb_per_second": raw["bytes"] / 1e6 / seconds}
        tracker.log_metrics(metrics | speed)


def make_tokenizer(params: TokenizerParams, raw_text: Path, raw_tokenizer: Path) -> BytePairTokenizer:
    """Learn the vocabulary from the text, or take the given one."""
    if params.kind == "trained":
        return train_tokenizer((row["text"] for row in read_raw_text(raw_text)), params.vocab_size)
    return load_byte_pair_tokenizer(raw_tokenizer)
