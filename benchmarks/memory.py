"""Peak memory of two training steps beside the peers, each in a process of its own.

    LLMCORE_MIRROR=/path/to/folder python -m benchmarks.memory

GPT-2 124M as in `benchmarks.training gpt2`, and LoRA as in `benchmarks.classification`, in fp32. It is the largest
resident size of the process, torch and the libraries in it.
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable

import torch

from benchmarks import classification, training
from benchmarks.side_by_side import Row, named, tell
from llmcore.config.read import read_params

OURS = "ours"
PEERS = {"training": ("transformers", "litgpt", "llms-from-scratch"), "classification": ("peft", "llms-from-scratch")}
TITLES = {
    "training": "peak memory of a training step, GPT-2 124M, 4 x 256 tokens, fp32",
    "classification": "peak memory of LoRA classification, GPT-2 124M, 8 messages, fp32",
}
GOALS = {"training": "1.25 x", "classification": "2 x"}


def steps_of(work: str, side: str) -> Callable[[], object]:
    """Return the training step of `side`: ours, or a peer's package."""
    if work == "training":
        inputs, targets = training.batch("gpt2")
        make = training.ours if side == OURS else training.PEERS[side]
        return make(training.SHAPES["gpt2"], inputs, targets, classification.CPU)
    rows = sorted(classification.messages(), key=lambda row: -len(row.ids))[: 2 * classification.BATCH]
    return classification.SIDES[side](rows, every=1)


def megabytes(work: str, side: str) -> float:
    """Return the peak of a fresh process that does it."""
    command = [sys.executable, "-m", "benchmarks.memory", "--one", work, side]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def compare(work: str) -> Row:
    peers = {title: megabytes(work, package) for package in PEERS[work] if (title := named(package))}
    return Row(TITLES[work], "MB", megabytes(work, OURS), peers, more_is_better=False, goal=GOALS[work])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, metavar=("WORK", "SIDE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.one:
        tell([compare(work) for work in PEERS])
        return
    torch.set_num_threads(read_params().compute.threads)
    step = steps_of(*arguments.one)
    for _ in range(2):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
