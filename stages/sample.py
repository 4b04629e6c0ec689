"""Sample. in: data/tokens | params: sample | out: data/samples (windows of training and validation), metrics."""

from dataclasses import asdict
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
        cuts = list(zip(tokens.spans, samples.val_positions, strict=True))
        metrics: dict[str, float] = {
            "tokens": len(tokens.ids),
            "train_windows": len(samples.train),
            "val_windows": len(samples.val),
            "train_tokens": int(samples.train["count"].sum()),
            "val_tokens": int(samples.val["count"].sum()),
            "train_coverage": coverage(samples.train, [(span.begin, cut) for span, cut in cuts]),
            "val_coverage": coverage(samples.val, [(cut, span.end) for span, cut in cuts]),
        }
        if samples.sources:
            metrics["epoch_tokens"] = samples.epoch_tokens
        for source in samples.sources:
            counts = asdict(source)
            name = counts.pop("name")
            metrics |= {f"source/{name}/{key}": count for key, count in counts.items()}
        write_json(metrics_file, metrics)
        tracker.log_metrics(metrics)
