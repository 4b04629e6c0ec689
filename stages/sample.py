"""Sample. in: data/tokens | params: sample | out: data/samples (windows of training and validation), metrics."""

from pathlib import Path

from llmcore.base.files import sha256_folder, write_json
from llmcore.config.params import read_params
from llmcore.data.samples import choose_samples, coverage, write_samples
from llmcore.data.tokens import open_tokens
from llmcore.tracking import tracker as tracking


def main(argv: list[str]) -> None:
    tokens_folder, out, metrics_file = map(Path, argv)
    params = read_params()
    section = params.sample
    with tracking.run("sample", params, ["sample"]) as tracker:
        tracker.log_dataset("tokens", str(tokens_folder), sha256_folder(tokens_folder))
        tokens = open_tokens(tokens_folder)
        samples = choose_samples(
            tokens,
            window_tokens=section.window_tokens,
            stride_tokens=section.stride_tokens,
            starts=section.starts,
            val_fraction=section.val_fraction,
        )
        write_samples(out, samples)
        cut, total = samples.val_position, len(tokens.ids)
        metrics = {
            "tokens": total,
            "train_windows": len(samples.train),
            "val_windows": len(samples.val),
            "train_tokens": int(samples.train["count"].sum()),
            "val_tokens": int(samples.val["count"].sum()),
            "train_coverage": coverage(tokens, samples.train, 0, cut),
            "val_coverage": coverage(tokens, samples.val, cut, total),
        }
        write_json(metrics_file, metrics)
        tracker.log_metrics(metrics)
