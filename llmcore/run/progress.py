"""What people see of a training: the progress bar, the rate, the tracked metrics. It changes no byte of an output."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from llmcore.base.progress import Bar
from llmcore.run.live_tables import LiveTables
from llmcore.tracking.tracker import Tracker
from llmcore.train.history import History
from llmcore.train.step import StepResult

RATE_SECONDS = 2.0  # between two points of the rate: a point per step would be noise


class Throughput:
    """Tokens per second of the training steps alone."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._seconds = 0.0
        self._tokens = 0

    def skip(self) -> None:
        """Leave out the time since the last step."""
        self._last = time.perf_counter()

    def after_step(self, n_tokens: int) -> float | None:
        """Count a step; return the rate since the last one that was returned, if RATE_SECONDS have passed."""
        now = time.perf_counter()
        self._seconds += now - self._last
        self._tokens += n_tokens
        self._last = now
        if self._seconds < RATE_SECONDS:
            return None
        rate = self._tokens / self._seconds
        self._seconds = 0.0
        self._tokens = 0
        return rate


class ProgressReporter:
    """Shows a training to people: a bar on the terminal, curves in the tracker and as tables in `tables`.

    Closes the bar at the end.
    """

    def __init__(self, name: str, steps: int, history: History, tracker: Tracker, *, tables: Path, progress: bool):
        self._name = name
        self._history = history
        self._tracker = tracker
        self._throughput = Throughput()
        self._tables = LiveTables(tables, history)
        self._bar = Bar(name, steps, "step", enabled=progress)

    def __enter__(self) -> "ProgressReporter":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def on_resume(self, step: int) -> None:
        """Send the tracker what came before `step`; it leaves out what it has."""
        for row in self._history.steps + self._history.evaluations:
            self._tracker.log_metrics({key: row[key] for key in row if key != "step"}, step=int(row["step"]))
        for sampled_at, text in self._history.samples.items():
            self.on_sample(sampled_at, text)
        self._bar.advance(step)
        print(f"{self._name}: resumes after step {step}, from its last checkpoint", file=sys.stderr, flush=True)

    def on_step_end(self, step: int, result: StepResult) -> None:
        self._tracker.log_metrics(result.metrics, step=step)
        if (rate := self._throughput.after_step(result.n_tokens)) is not None:
            self._tracker.log_metrics({"perf/tokens_per_second": rate}, step=step)
        self._bar.advance(loss=f"{result.loss:.3f}")
        self._tables.after_step()

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        self._tracker.log_metrics(metrics, step=step)
        self._throughput.skip()
        self._tables.after_evaluation()
        self._bar.write(f"step {step}: " + ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()))

    def on_sample(self, step: int, text: str) -> None:
        self._tracker.log_artifact(f"samples/step-{step:06d}.txt", text)


class CompositeCallback:
    """Passes a training's events to its history and then to the reporter; generates a text at each evaluation."""

    def __init__(self, history: History, reporter: ProgressReporter, sample: Callable[[], str] | None):
        self._history = history
        self._reporter = reporter
        self._sample = sample

    def on_resume(self, step: int) -> None:
        self._reporter.on_resume(step)

    def on_step_end(self, step: int, result: StepResult) -> None:
        self._history.on_step_end(step, result)
        self._reporter.on_step_end(step, result)

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        self._history.on_evaluate(step, metrics)
        self._reporter.on_evaluate(step, metrics)
        if self._sample:
            self._history.samples[step] = self._sample()
            self._reporter.on_sample(step, self._history.samples[step])
