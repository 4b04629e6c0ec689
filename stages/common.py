"""What every stage shares: how it ends on a user's mistake, and who watches a training."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from llmcore.errors import UserError
from llmcore.files import fresh_folder, sha256_file, sha256_folder
from llmcore.progress import Bar
from llmcore.report import figures
from llmcore.tracking import Tracker
from llmcore.train.history import History


def run(main: Callable[[list[str]], None]) -> NoReturn:
    """Call a stage with the command line's arguments; a user's mistake is a line each on stderr, exit code 2."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


class Watch:
    """Observes a training for people: keeps its history, moves the bar, tells the tracker.

    `sample`, if given, returns text that the model writes; it is asked for at each evaluation.
    """

    def __init__(
        self, name: str, steps: int, tracker: Tracker, *, progress: bool, sample: Callable[[], str] | None = None
    ):
        self.history = History()
        self.sampled = ""
        self._tracker, self._sample = tracker, sample
        self._bar = Bar(name, steps, "step", enabled=progress)

    def trained(self, step: int, metrics: dict[str, float]) -> None:
        self.history.trained(step, metrics)
        named = {"loss/train": metrics["loss"], "optim/lr": metrics["lr"], "optim/grad_norm": metrics["grad_norm"]}
        self._tracker.log_metrics(named, step=step)
        self._bar.advance(loss=f"{metrics['loss']:.3f}")

    def evaluated(self, step: int, metrics: dict[str, float]) -> None:
        self.history.evaluated(step, metrics)
        named = {("loss/val" if key == "loss" else f"val/{key}"): value for key, value in metrics.items()}
        self._tracker.log_metrics(named, step=step)
        self._bar.say(f"step {step}: " + ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
        if self._sample:
            self.sampled = self._sample()
            self._tracker.log_text(self.sampled, f"samples/step-{step:06d}.txt")

    def close(self) -> None:
        self._bar.close()


def inputs_of(tracker: Tracker, **folders: Path) -> dict[str, str]:
    """Return the content hash of each input folder, and tell the tracker."""
    hashes = {name: sha256_folder(folder) for name, folder in folders.items()}
    for name, folder in folders.items():
        tracker.log_dataset(name, folder.as_posix(), hashes[name])
    return hashes


def data_lines(inputs: dict[str, str]) -> list[str]:
    """Say for a model card by which hash each input is known."""
    return [f"{name}, sha256 `{digest}`" for name, digest in inputs.items()]


def check_length(key: str, max_tokens: int, context_length: int) -> None:
    """UserError if rows may be longer than the base can read."""
    if max_tokens > context_length:
        rule = f"must be at most the base's context of {context_length} tokens, got {max_tokens}"
        raise UserError(f"{key} {rule}; lower it")


def write_history(plots: Path, history: History, floor: float | None = None) -> None:
    """Write a training's curves: CSV for `dvc plots`, PNG for people."""
    fresh_folder(plots)
    figures.write_csv(plots / "steps.csv", history.steps)
    figures.write_csv(plots / "validation.csv", history.validations)
    figures.loss_curves(plots / "loss.png", history.steps, history.validations, floor=floor)
    figures.learning_rate(plots / "lr.png", history.steps)


def report(tracker: Tracker, metrics: dict[str, float], plots: Path) -> None:
    """Tell the tracker the final metrics and give it the figures."""
    tracker.log_metrics(metrics)
    for figure in sorted(plots.glob("*.png")):
        tracker.log_artifact(figure, "figures")


def report_model(tracker: Tracker, metrics: dict[str, float], plots: Path, weights: Path) -> None:
    """`report`, with the hash by which evaluations and the ledger find this training."""
    report(tracker, metrics, plots)
    tracker.set_tags({"model_sha256": sha256_file(weights)})
