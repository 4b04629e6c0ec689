"""Sizes times data as DVC experiments, and the scaling law of their losses: python -m llmcore.run.scaling

Each size sees each amount of data, at most one epoch of it, with its own schedule to its end. The learning rate falls
with the square root of the width, as in Vaswani et al. 2017 (arXiv:1706.03762). `dvc exp show` lists the experiments.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from llmcore.base.errors import UserError, run_entry_point
from llmcore.base.files import write_csv, write_text
from llmcore.base.project import project_root
from llmcore.base.seeds import numpy_generator
from llmcore.config.params import Params
from llmcore.config.read import read_params
from llmcore.dvc.experiments import committed_metrics
from llmcore.dvc.queue import run_queue
from llmcore.evaluate.scaling_law import MIN_POINTS, fit_with_intervals
from llmcore.evaluate.scores import Uncertainty
from llmcore.model.costs import training_flops
from llmcore.model.registry import architecture
from llmcore.report.scaling_figure import scaling_figure
from llmcore.report.scaling_page import scaling_page

SIZES = ("3x32x4", "3x48x4", "3x64x4", "3x96x4", "3x128x4")  # blocks x width x heads
TOKENS = (500_000, 1_000_000, 2_000_000, 4_000_000)
STORIES = 80_000  # written by the built-in world for the sweep
JOBS = 2
LR_OF_WIDTH_1 = 0.09  # 0.016 at width 32, 0.008 at 128
WARMUP_SHARE = 0.025  # of the steps
CONFIDENCE = 0.95
PAGE, FIGURE, POINTS = (Path("reports") / f"scaling.{ending}" for ending in ("md", "png", "csv"))

Size = tuple[int, int, int]  # blocks, width, heads
Text = Mapping[str, float]  # metrics of the stages tokenize and sample


def main(arguments: list[str]) -> None:
    """Train what is missing, fit the law and write table, points and picture to reports/."""
    given = parser().parse_args(arguments)
    check_numbers(given)
    root = project_root()
    params = read_params(root / "params.yaml")
    if params.sources.text.kind != "world":
        raise UserError(
            f"sources.text.kind: must be world, whose floor is known, got {params.sources.text.kind}; correct it"
        )
    prepared = f"scaling-text-{given.stories}"
    settings = {"sources.text.stories": given.stories}
    [commit] = run_queue(root, {prepared: settings}, "sample", jobs=1).values()
    text = committed_metrics(root, commit, "tokenize") | committed_metrics(root, commit, "sample")
    sweep = {
        f"scaling-{'x'.join(map(str, size))}-{tokens}-of-{given.stories}": (size, tokens)
        for tokens in sorted(given.tokens, reverse=True)  # the longest first, so that no worker waits for another
        for size in sorted(given.sizes, reverse=True)
    }
    experiments = {name: settings | training_settings(params, text, *pair) for name, pair in sweep.items()}
    commits = run_queue(root, experiments, "pretrain", jobs=given.jobs)
    rows = [
        point(params, text, sweep[name][0], committed_metrics(root, commit, "pretrain"))
        for name, commit in reversed(commits.items())
    ]
    write_results(root, rows, params.seed)


def check_numbers(given: argparse.Namespace) -> None:
    """UserError for numbers that no training can have."""
    for name in ("tokens", "stories", "jobs"):
        value = getattr(given, name)
        if least := [number for number in (value if isinstance(value, Sequence) else [value]) if number < 1]:
            raise UserError(f"{name.upper()}: must be positive, got {least[0]}; correct it")
    for layers, width, heads in given.sizes:
        if min(layers, width, heads) < 1 or width % heads:
            got = f"{layers}x{width}x{heads}"
            rule = "must be blocks x width x heads, the width a multiple of the heads"
            raise UserError(f"SIZES: {rule}, got {got}; correct it")
    sizes, tokens = len(set(given.sizes)), len(set(given.tokens))
    if min(sizes, tokens) < 2 or sizes * tokens < MIN_POINTS:
        rule = f"must make {MIN_POINTS} trainings, of two sizes and two amounts of data at least"
        raise UserError(f"SIZES, TOKENS: {rule}, got {sizes} and {tokens}; name more")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="make scaling", description=__doc__)
    found.add_argument("--sizes", nargs="+", type=size, default=[size(text) for text in SIZES])
    found.add_argument("--tokens", nargs="+", type=int, default=TOKENS, help="tokens seen by each size")
    found.add_argument("--stories", type=int, default=STORIES, help="stories that the built-in world writes")
    found.add_argument("--jobs", type=int, default=JOBS, help="trainings at a time")
    return found


def size(text: str) -> Size:
    """Return blocks, width and heads of a size such as "3x64x4"."""
    layers, width, heads = map(int, text.split("x"))
    return layers, width, heads


def model_shape(params: Params, size: Size) -> dict[str, int]:
    """Return the keys of `model` that a size sets; the width of the MLP grows as that of the blocks."""
    layers, width, heads = size
    hidden = round(params.model.intermediate_size * width / params.model.n_embd)
    return {"n_layer": layers, "n_embd": width, "n_head": heads, "intermediate_size": hidden}


def training_settings(params: Params, text: Text, size: Size, tokens: int) -> dict[str, object]:
    """Return the settings of a training; UserError if it would see a token twice."""
    if tokens > text["train_tokens"]:
        raise UserError(
            f"TOKENS: must be at most {text['train_tokens']:,.0f}, one epoch, got {tokens:,}; lower it or raise STORIES"
        )
    tokens_per_step = text["train_tokens"] / text["train_windows"] * params.pretrain.batch_size
    steps = tokens / tokens_per_step
    return {
        **{f"model.{key}": value for key, value in model_shape(params, size).items()},
        "pretrain.tokens": tokens,
        "pretrain.lr": float(f"{LR_OF_WIDTH_1 / size[1] ** 0.5:.2g}"),
        "pretrain.micro_batch_size": params.pretrain.batch_size,  # one process need not share a step
        "pretrain.warmup_steps": round(WARMUP_SHARE * steps),
        "pretrain.eval_interval_steps": round(steps) + 1,  # one before the first step and one at the end
        "runtime.processes": 1,
    }


def point(params: Params, text: Text, size: Size, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return a training as a row of the results."""
    per_token = flops_per_token(params, text, size)
    return {
        "n_layer": size[0],
        "n_embd": size[1],
        "n_head": size[2],
        "parameters": metrics["parameters"],
        "tokens_seen": metrics["tokens_seen"],
        "flops_per_token": per_token,
        "flops": per_token * metrics["tokens_seen"],
        "val/loss": metrics["val/loss"],
        "floor_nats_per_token": metrics["floor_nats_per_token"],
    }


def flops_per_token(params: Params, text: Text, size: Size) -> float:
    """Return the operations of forward and backward pass per token, in windows of the mean length."""
    shape = params.model.model_dump() | model_shape(params, size)
    entry = architecture(params.model.kind)
    with torch.device("meta"):
        model = entry.new_model(entry.config_from_params(shape, int(text["vocab_size"])))
    length = round(text["train_tokens"] / text["train_windows"])
    return sum(training_flops(model, rows=1, length=length, n_targets=length)) / length


def write_results(root: Path, rows: Sequence[Mapping[str, float]], seed: int) -> None:
    """Fit the law to the rows, with E free and with E at the floor, and write and print what comes out."""
    n, d, losses, per_token = (
        np.array([row[key] for row in rows]) for key in ("parameters", "tokens_seen", "val/loss", "flops_per_token")
    )
    write_csv(root / POINTS, rows)
    floor = rows[0]["floor_nats_per_token"]
    free, at_floor = (
        fit_with_intervals(n, d, losses, Uncertainty(CONFIDENCE, numpy_generator(seed, "scaling")), irreducible=fixed)
        for fixed in (None, floor)
    )
    exponent, log_factor = np.polyfit(np.log(n), np.log(per_token), 1)
    page = scaling_page(rows, free, at_floor, (float(np.exp(log_factor)), float(exponent)))
    scaling_figure(root / FIGURE, rows, free.law, free.intervals["E"])
    write_text(root / PAGE, page)
    print(page, end="")


if __name__ == "__main__":
    sys.exit(run_entry_point(lambda: main(sys.argv[1:]), prints_result=True))
