"""What the three training stages share: inputs known by hash, the training, its curves, what is told of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from llmcore.compute import Machine
from llmcore.errors import UserError
from llmcore.files import fresh_folder, sha256_file, sha256_folder, write_csv
from llmcore.model.folder import WEIGHTS_FILE, fingerprint
from llmcore.origin import read_source
from llmcore.params import Params, Training
from llmcore.report import figures
from llmcore.tracking import Tracker
from llmcore.train.history import History
from llmcore.train.loop import Task, fit, total_steps
from stages.common import Watch, track_results


class Observer:
    """Passes a training's events on to its history and to who watches; samples text at each evaluation."""

    def __init__(self, history: History, watch: Watch, tracker: Tracker, sample: Callable[[], str] | None):
        self._history, self._watch, self._tracker, self._sample = history, watch, tracker, sample

    def trained(self, step: int, metrics: dict[str, float]) -> None:
        self._history.trained(step, metrics)
        self._watch.trained(step, metrics)

    def evaluated(self, step: int, metrics: dict[str, float]) -> None:
        self._history.evaluated(step, metrics)
        self._watch.evaluated(step, metrics)
        if self._sample:
            self._tracker.log_text(self._sample(), f"samples/step-{step:06d}.txt")


def train(
    name: str,
    model: nn.Module,
    task: Task[Any],
    section: Training,
    params: Params,
    *,
    machine: Machine,
    tracker: Tracker,
    sample: Callable[[], str] | None = None,
) -> tuple[dict[str, float], History]:
    """Train `model` in place; return its metrics and its history."""
    history, steps = History(), total_steps(task, section.epochs)
    with Watch(name, steps, tracker, progress=params.runtime.progress) as watch:
        observer = Observer(history, watch, tracker, sample)
        last = fit(model, task, section, seed=params.seed, machine=machine, observer=observer)
    metrics = {"steps": steps, "train_loss": history.mean_loss(task.steps_per_epoch)}
    return metrics | {f"val_{key}": value for key, value in last.items()}, history


def inputs_of(tracker: Tracker, **folders: Path) -> dict[str, str]:
    """Return the hash of each input folder, and tell the tracker; a model is known by what it computes."""
    is_model = {name: (folder / "config.json").is_file() for name, folder in folders.items()}
    hashes = {name: fingerprint(f) if is_model[name] else sha256_folder(f) for name, f in folders.items()}
    for name, folder in folders.items():
        tracker.log_dataset(name, folder.as_posix(), hashes[name])
    return hashes


def card_lines(inputs: dict[str, str], **folders: Path) -> list[str]:
    """Say for a model card what each input is, on what terms, and by which hash it is known."""
    sources = {name: read_source(folder) for name, folder in folders.items()}
    return [f"{name}: {sources[name].kind}, {sources[name].licence}; sha256 `{inputs[name]}`" for name in folders]


def check_length(key: str, max_tokens: int, context_length: int) -> None:
    """UserError if rows may be longer than the base can read."""
    if max_tokens > context_length:
        rule = f"must be at most the base's context of {context_length} tokens, got {max_tokens}"
        raise UserError(f"{key} {rule}; lower it")


def write_history(plots: Path, history: History, floor: float | None = None) -> None:
    """Write a training's curves: CSV for `dvc plots`, PNG for people."""
    fresh_folder(plots)
    write_csv(plots / "steps.csv", history.steps)
    write_csv(plots / "validation.csv", history.validations)
    figures.loss_curves(plots / "loss.png", history.steps, history.validations, floor=floor)
    figures.learning_rate(plots / "lr.png", history.steps)


def track_model(tracker: Tracker, metrics: dict[str, float], plots: Path, folder: Path) -> None:
    """Tell the tracker the results, and the hash by which evaluations and the ledger find this training."""
    track_results(tracker, metrics, plots)
    tracker.set_tags({"model_sha256": sha256_file(folder / WEIGHTS_FILE)})
