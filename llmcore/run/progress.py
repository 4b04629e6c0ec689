"""What people see of a training: the progress bar, the rate, the tracked metrics. It changes no byte of an out."""

import sys
import time
from pathlib import Path

from llmcore.base.progress import Bar
from llmcore.tracking.tracker import Tracker
from llmcore.train.history import History

TABLE_ROWS = 200  # of test rows shown in MLflow
RATE_SECONDS = 2.0


class Watch:
    """Shows a training to people: moves the bar, tells the tracker. Closes the bar at the end, however it ends."""

    def __init__(self, name: str, steps: int, tracker: Tracker, *, progress: bool):
        self._name, self._tracker = name, tracker
        self._rate = Rate()
        self._bar = Bar(name, steps, "step", enabled=progress)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def trained(self, step: int, metrics: dict[str, float]) -> None:
        self._track_step(step, metrics)
        if (rate := self._rate.after(metrics["supervised"])) is not None:
            self._tracker.log_metrics({"perf/targets_per_second": rate}, step=step)
        self._bar.advance(loss=f"{metrics['loss']:.3f}")

    def evaluated(self, step: int, metrics: dict[str, float]) -> None:
        self._track_evaluation(step, metrics)
        self._rate.skip()
        self._bar.say(f"step {step}: " + ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()))

    def sampled(self, step: int, text: str) -> None:
        self._tracker.log_text(text, f"samples/step-{step:06d}.txt")

    def resumed(self, step: int, history: History) -> None:
        """Go on after `step`, and tell the tracker what came before; what it has, it leaves out."""
        for at, metrics in history.steps_done():
            self._track_step(at, metrics)
        for at, metrics in history.evaluations():
            self._track_evaluation(at, metrics)
        for at, text in history.samples.items():
            self.sampled(at, text)
        self._bar.advance(step)
        print(f"{self._name}: goes on after step {step}, from its last checkpoint", file=sys.stderr, flush=True)

    def _track_step(self, step: int, metrics: dict[str, float]) -> None:
        named = {"loss/train": metrics["loss"], "optim/lr": metrics["lr"], "optim/grad_norm": metrics["grad_norm"]}
        self._tracker.log_metrics(named, step=step)

    def _track_evaluation(self, step: int, metrics: dict[str, float]) -> None:
        named = {("loss/val" if key == "loss" else f"val/{key}"): value for key, value in metrics.items()}
        self._tracker.log_metrics(named, step=step)


class Rate:
    """How many targets a second are learned, told every few seconds: a point a step would be noise."""

    def __init__(self) -> None:
        self._last, self._seconds, self._targets = time.perf_counter(), 0.0, 0.0

    def skip(self) -> None:
        """Leave out the time since the last step."""
        self._last = time.perf_counter()

    def after(self, targets: float) -> float | None:
        """Count a step with so many targets; return the rate since it was told last, if it is time."""
        now = time.perf_counter()
        self._seconds, self._targets, self._last = self._seconds + now - self._last, self._targets + targets, now
        if self._seconds < RATE_SECONDS:
            return None
        rate, self._seconds, self._targets = self._targets / self._seconds, 0.0, 0.0
        return rate


def track_results(tracker: Tracker, metrics: dict[str, float], plots: Path) -> None:
    """Tell the tracker the final metrics and give it the figures."""
    tracker.log_metrics(metrics)
    for figure in sorted(plots.glob("*.png")):
        tracker.log_artifact(figure, "figures")
