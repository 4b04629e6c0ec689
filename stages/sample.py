"""Sample. in: data/tokens | params: sample | out: data/samples (windows of training and validation), metrics."""

from pathlib import Path

from llmcore.base.files import sha256_folder, write_json
from llmcore.config.read import read_params
from llmcore.data.samples import choose_samples, coverage, write_samples
from llmcore.data.tokens import open_tokens
from llmcore.tracking.run import tracked_run


def main(argv: list[str]) -> None:
    tokens_folder, out, metrics_file = map(Path, argv)
    params = read_params()
    with tracked_run("sample", params) as tracker:
        tracker.log_input("tokens", str(tokens_folder), sha256_folder(tokens_folder))
        tokens = open_tokens(tokens_folder)
        samples = choose_samples(tokens, **params.sample.model_dump())
        write_samples(out, samples)
        total = len(tokens.ids)
        metrics = {
            "tokens": total,
            "train_windows": len(samples.train),
            "val_windows": len(samples.val),
            "train_tokens": int(samples.train["count"].sum()),
            "val_tokens": int(samples.val["count"].sum()),
            "train_coverage": coverage(samples.train, 0, samples.val_position),
            "val_coverage": coverage(samples.val, samples.val_position, total),
        }
        write_json(metrics_file, metrics)
        tracker.log_metrics(metrics)
