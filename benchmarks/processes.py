"""What portable numerics and several processes cost: training steps of one model, in turns.

    python -m benchmarks.processes quickstart
    python -m benchmarks.processes gpt2 --precision bf16

All cores are used by one native process with as many threads, or by as many processes, which in fp32 are portable. Each
turn is a fresh start, whose first step is not counted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from llmcore.base import parallel
from llmcore.base.numerics import settle_numerics
from llmcore.base.process import usable_cores

STEPS = {"quickstart": 60, "gpt2": 4}
ROUNDS = 3


def rate(model: str, precision: str, threads: int) -> float:
    """Train a few steps, in as many micro-batches as there are cores; return the tokens per second."""
    import torch

    from benchmarks.training import SHAPES, batch, ours
    from llmcore.train.compute import Compute

    torch.set_num_threads(threads)
    inputs, targets = batch(model)
    step = ours(SHAPES[model], inputs, targets, Compute(torch.device("cpu"), precision), usable_cores())
    step()
    begin = time.perf_counter()
    for _ in range(STEPS[model]):
        step()
    return STEPS[model] * inputs.numel() / (time.perf_counter() - begin)


def turn(model: str, precision: str, processes: int) -> float:
    """Return the rate of a fresh start."""
    command = [sys.executable, "-m", "benchmarks.processes", model, "--precision", precision]
    done = subprocess.run(
        [*command, "--processes", str(processes)], stdout=subprocess.PIPE, text=True, check=True, env=os.environ
    )
    return float(done.stdout)


def work(model: str, precision: str, processes: int) -> None:
    """Print the rate of this number of processes."""
    numerics = "portable" if processes > 1 and precision == "fp32" else "native"
    settle_numerics(numerics, precision, "cpu")
    from llmcore.run.launch import launch

    if processes > 1 and not parallel.launcher_pid():
        command = ["-m", "benchmarks.processes", model, "--precision", precision, "--processes", str(processes)]
        sys.exit(launch("benchmark", command, processes))
    found = rate(model, precision, usable_cores() // processes)
    if parallel.is_first():
        print(found, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=STEPS)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--processes", type=int, help="measure this number of processes alone")
    arguments = parser.parse_args()
    if arguments.processes:
        work(arguments.model, arguments.precision, arguments.processes)
        return
    cores = usable_cores()
    rates: dict[int, list[float]] = {1: [], cores: []}
    for _ in range(ROUNDS):
        for processes, found in rates.items():
            found.append(turn(arguments.model, arguments.precision, processes))
    from benchmarks.side_by_side import Row, tell

    kind = "portable" if arguments.precision == "fp32" else "native"
    tell(
        [
            Row(
                f"training step, {arguments.model}, {arguments.precision}, {cores} {kind} processes",
                "tokens/s",
                statistics.median(rates[cores]),
                {f"one native process, {cores} threads": statistics.median(rates[1])},
                goal="0.95 x",
            )
        ]
    )


if __name__ == "__main__":
    main()
