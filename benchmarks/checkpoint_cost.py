"""What saving costs: the quickstart's pretraining with and without checkpoints, in turns.

    python -m benchmarks.checkpoint_cost --steps 300 --rounds 5

Prints a table, and as its last line one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.quickstart import quickstart
from llmcore.config.read import read_params
from llmcore.train.checkpoint import Checkpoint
from llmcore.train.history import History
from llmcore.train.loop import Checkpointer, NullCheckpointer, fit
from llmcore.train.resume import DiskCheckpointer
from llmcore.train.scratch import scratch_root


class Counting(DiskCheckpointer):
    """Counts the checkpoints that are written."""

    saved = 0

    def _write(self, checkpoint: Checkpoint) -> None:
        self.saved += 1
        super()._write(checkpoint)


def measure(steps: int, folder: Path | None) -> tuple[float, int]:
    """Return the seconds of a training, and how often it was saved."""
    params = read_params()
    history = History()
    model, task, section, compute = quickstart(steps, params)
    checkpointer: Checkpointer = Counting(folder, history, params.runtime) if folder else NullCheckpointer()
    begin = time.perf_counter()
    fit(model, task, section, seed=params.seed, compute=compute, callback=history, checkpointer=checkpointer)
    return time.perf_counter() - begin, getattr(checkpointer, "saved", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    scratch_root().mkdir(exist_ok=True)
    measure(20, None)  # warm up
    without, with_saving, saved = [], [], []
    for _ in range(arguments.rounds):
        without.append(measure(arguments.steps, None)[0])
        with tempfile.TemporaryDirectory(dir=scratch_root()) as folder:  # on the disk of the project, as .ckpt is
            seconds, times = measure(arguments.steps, Path(folder))
        with_saving.append(seconds)
        saved.append(times)
    cost = statistics.median(b / a for a, b in zip(without, with_saving, strict=True)) - 1
    print(f"without checkpoints  {statistics.median(without):8.2f} s for {arguments.steps} steps")
    print(f"with checkpoints     {statistics.median(with_saving):8.2f} s, saved {statistics.median(saved)} times")
    print(f"cost, median of {arguments.rounds} pairs: {cost:+.1%}")
    print(json.dumps({"without_seconds": without, "with_seconds": with_saving, "saved": saved, "cost": cost}))


if __name__ == "__main__":
    main()
