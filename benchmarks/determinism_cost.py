"""What `compute.determinism` costs: steps of the quickstart's pretraining with each setting, in turns.

    python -m benchmarks.determinism_cost --steps 30 --rounds 7

Prints a table, and as its last line one JSON object.
"""

import argparse
import json
import statistics
import time

from benchmarks.quickstart import quickstart
from llmcore.config.read import read_params
from llmcore.train.compute import setup_compute
from llmcore.train.optimizer import make_optimizer
from llmcore.train.step import train_step

SETTINGS = ("strict", "warn", "off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    params = read_params()
    model, task, section, compute = quickstart(3000, params)
    optimizer = make_optimizer(model, section)
    seconds: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    for _ in range(arguments.rounds):
        for setting in SETTINGS:
            setup_compute(params.compute.model_copy(update={"determinism": setting}))
            begin = time.perf_counter()
            for step in range(arguments.steps):
                train_step(model, task, optimizer, step, lr=1e-4, grad_clip=1.0, seed=0, compute=compute)
            seconds[setting].append((time.perf_counter() - begin) / arguments.steps)
    ratios = {
        setting: statistics.median(a / b for a, b in zip(seconds[setting], seconds["off"], strict=True))
        for setting in SETTINGS
    }
    for setting in SETTINGS:
        print(f"{setting:7} {1000 * statistics.median(seconds[setting]):8.1f} ms a step, {ratios[setting]:.3f} of off")
    print(json.dumps({"device": str(compute.device), "step_seconds": seconds, "ratio_to_off": ratios}))


if __name__ == "__main__":
    main()
