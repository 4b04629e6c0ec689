"""What kills cost: half of the quickstart's steps, interrupted ten times at random, against once undisturbed.

    python -m benchmarks.interruption_cost --steps 1518 --kills 10

Time is that of the trainings alone, with restoring and the steps done twice, without the start of a process.
Prints a table, and as its last line one JSON object.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from benchmarks.quickstart import quickstart
from llmcore.config.read import read_params
from llmcore.train.history import History
from llmcore.train.loop import fit
from llmcore.train.resume import DiskCheckpointer
from llmcore.train.scratch import scratch_root
from llmcore.train.state import State
from llmcore.train.step import StepResult


class Killed(BaseException):
    """Stands for kill -9: no code of the loop runs after it."""


class Mortal(DiskCheckpointer):
    """Dies once at each of the steps in `deaths`."""

    deaths: list[int]

    def after_step(self, state: State, *, last: bool) -> None:
        if self.deaths and state.step >= self.deaths[0]:
            self.deaths.pop(0)
            raise Killed
        super().after_step(state, last=last)


def measure(steps: int, deaths: list[int]) -> tuple[float, int]:
    """Return the seconds and the steps that a training took, with those done twice."""
    params = read_params()
    seconds, done = 0.0, 0
    with tempfile.TemporaryDirectory(dir=scratch_root()) as folder:
        while True:
            model, task, section, compute = quickstart(steps, params)
            counter = Counter()
            checkpointer = Mortal(Path(folder), counter, params.runtime)
            checkpointer.deaths = deaths
            begin = time.perf_counter()
            try:
                fit(
                    model, task, section, seed=params.seed, compute=compute, callback=counter, checkpointer=checkpointer
                )
                return seconds + time.perf_counter() - begin, done + counter.n_steps
            except Killed:
                seconds = seconds + time.perf_counter() - begin
                done = done + counter.n_steps
                checkpointer.wait()


class Counter(History):
    """A history that counts the steps of this attempt."""

    n_steps = 0

    def on_step_end(self, step: int, result: StepResult) -> None:
        self.n_steps += 1
        super().on_step_end(step, result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1518)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    scratch_root().mkdir(exist_ok=True)
    deaths = sorted(random.Random(arguments.seed).sample(range(1, arguments.steps), arguments.kills))
    undisturbed, _ = measure(arguments.steps, [])
    disturbed, steps = measure(arguments.steps, list(deaths))
    print(f"undisturbed          {undisturbed:8.2f} s, {arguments.steps} steps")
    print(
        f"killed {arguments.kills:3} times     {disturbed:8.2f} s, {steps} steps, {steps - arguments.steps} done twice"
    )
    print(f"cost: {disturbed / undisturbed - 1:+.1%} time, {steps / arguments.steps - 1:+.1%} steps")
    print(json.dumps({"undisturbed_seconds": undisturbed, "disturbed_seconds": disturbed, "steps": steps}))


if __name__ == "__main__":
    main()
