"""How every stage ends on a user's mistake, and who watches it. Nothing here makes a byte of an out."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from llmcore.errors import UserError, tell
from llmcore.progress import Bar
from llmcore.tracking import Tracker

TABLE_ROWS = 200  # of test rows shown in MLflow


def run(main: Callable[[list[str]], None]) -> NoReturn:
    """Call a stage with the command line's arguments; a user's mistake is a line each on stderr, exit code 2."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(tell(error))
    sys.exit(0)


class Watch:
    """Shows a training to people: moves the bar, tells the tracker. Closes the bar at the end, however it ends."""

    def __init__(self, name: str, steps: int, tracker: Tracker, *, progress: bool):
        self._tracker = tracker
        self._bar = Bar(name, steps, "step", enabled=progress)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def trained(self, step: int, metrics: dict[str, float]) -> None:
        named = {"loss/train": metrics["loss"], "optim/lr": metrics["lr"], "optim/grad_norm": metrics["grad_norm"]}
        self._tracker.log_metrics(named, step=step)
        self._bar.advance(loss=f"{metrics['loss']:.3f}")

    def evaluated(self, step: int, metrics: dict[str, float]) -> None:
        named = {("loss/val" if key == "loss" else f"val/{key}"): value for key, value in metrics.items()}
        self._tracker.log_metrics(named, step=step)
        self._bar.say(f"step {step}: " + ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()))


def track_results(tracker: Tracker, metrics: dict[str, float], plots: Path) -> None:
    """Tell the tracker the final metrics and give it the figures."""
    tracker.log_metrics(metrics)
    for figure in sorted(plots.glob("*.png")):
        tracker.log_artifact(figure, "figures")
