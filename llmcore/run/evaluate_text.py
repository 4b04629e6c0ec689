"""Evaluate a language model on any text: perplexity and nats per byte, with intervals."""

import math
from pathlib import Path

import numpy as np

from llmcore.base.containers import chunks
from llmcore.base.errors import UserError
from llmcore.base.files import write_json
from llmcore.base.progress import bar
from llmcore.base.seeds import numpy_generator
from llmcore.data.text_files import TEXT_SUFFIXES, read_documents
from llmcore.data.windows import IGNORE_INDEX
from llmcore.evaluate.scores import bootstrap_interval
from llmcore.generate.open import open_language_model
from llmcore.tasks.language import collate_windows, text_windows
from llmcore.tasks.next_token import row_log_likelihoods

MAX_WINDOW_TOKENS = 1024  # longer contexts would need more memory for logits than they change the loss
BATCH_TOKENS = 2048


def evaluate_text(model_path: Path, file: Path, out: Path, confidence: float) -> str:
    """Write metrics.json about the documents of a .txt or .jsonl file into the folder `out`; return them in words.

    The text is cut into windows that do not overlap; intervals come from windows drawn with replacement, and take
    the tokens per byte of this text for given. A single window gives none.
    """
    if file.suffix.lower() not in TEXT_SUFFIXES:
        rule = f"is a language model, which needs a text ({', '.join(TEXT_SUFFIXES)}), got {file.name!r}"
        raise UserError(f"{model_path}: {rule}; give a text, or a classifier's folder")
    texts = read_documents(file)
    model, tokenizer = open_language_model(model_path)
    window_tokens = min(model.config.context_length, MAX_WINDOW_TOKENS)
    windows = text_windows(tokenizer, texts, window_tokens)
    parts = chunks(range(len(windows)), max(1, BATCH_TOKENS // window_tokens))
    nats, n_targets = [], []
    for part in bar(parts, "evaluate", len(parts), " batches", enabled=True):
        batch = collate_windows(windows, part, model.device)
        nats += (-model.check_finite(row_log_likelihoods(model, batch), "log-likelihoods")).tolist()
        n_targets += (batch.targets != IGNORE_INDEX).sum(1).tolist()
    text_bytes = sum(len(text.encode("utf-8")) for text in texts)
    metrics = loss_metrics(np.array(nats), np.array(n_targets), text_bytes, confidence)
    write_json(out / "metrics.json", metrics)
    size = f"{text_bytes:,} bytes, {metrics['tokens']:,} tokens, windows of {window_tokens} tokens: {len(nats):,}"
    scores = ("nats_per_byte", "bits_per_byte", "loss", "perplexity")
    names = {"loss": "nats per token"} | {name: name.replace("_", " ") for name in scores if name != "loss"}
    lines = [f"{names[name]:<16}{_with_interval(metrics, name)}" for name in scores]
    return "\n".join([f"{model_path} on {file}: {size}", "", *lines, "", f"written to {out}: metrics.json"])


def loss_metrics(nats: np.ndarray, n_targets: np.ndarray, text_bytes: int, confidence: float) -> dict[str, float]:
    """Return loss, perplexity, nats and bits per byte with their intervals, from sums over windows: (windows,) each."""

    def loss(picked: np.ndarray) -> float:
        return float(nats[picked].sum() / n_targets[picked].sum())

    everything = np.arange(len(nats))
    values = {"": loss(everything)}
    if len(nats) > 1:
        ends = bootstrap_interval(len(nats), loss, confidence, numpy_generator(0, "bootstrap"))
        values |= dict(zip(("_low", "_high"), ends, strict=True))
    tokens = int(n_targets.sum())
    metrics: dict[str, float] = {"windows": len(nats), "tokens": tokens, "bytes": text_bytes}
    for end, value in values.items():
        nats_per_byte = value * tokens / text_bytes
        metrics |= {f"loss{end}": value, f"perplexity{end}": math.exp(min(value, 700.0))}  # a float overflows at 709
        metrics |= {f"nats_per_byte{end}": nats_per_byte, f"bits_per_byte{end}": nats_per_byte / math.log(2)}
    return metrics


def _with_interval(metrics: dict[str, float], name: str) -> str:
    value = f"{metrics[name]:.4g}"
    if f"{name}_low" not in metrics:
        return f"{value}, without interval: a single window"
    return f"{value} [{metrics[f'{name}_low']:.4g}, {metrics[f'{name}_high']:.4g}]"
