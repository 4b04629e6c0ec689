"""What the three training stages share: the training, saved and resumed, its curves, what is told of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from llmcore.base.errors import UserError
from llmcore.base.files import fresh_folder, sha256_file, write_csv
from llmcore.base.origin import read_source
from llmcore.config.params import Params, Runtime, Training
from llmcore.model.folder import WEIGHTS_FILE
from llmcore.report import figures
from llmcore.report.card import Kind, model_card
from llmcore.run.inputs import card_lines, hashes_of, tell_inputs
from llmcore.run.progress import Watch, track_results
from llmcore.tracking import tracker as tracking
from llmcore.tracking.tracker import Tracker, flatten
from llmcore.train.compute import Machine, describe_machine
from llmcore.train.history import History
from llmcore.train.key import code_hashes
from llmcore.train.loop import NO_MEMORY, Task, fit, total_steps
from llmcore.train.resume import Checkpoints
from llmcore.train.scratch import Scratch, claimed
from llmcore.train.state import State


@dataclass(frozen=True)
class Work:
    """One training: its stage, numbers and inputs, who is told, and where it is saved."""

    stage: str
    params: Params
    sections: list[str]
    folders: dict[str, Path]
    inputs: dict[str, str]  # their hashes
    tracker: Tracker
    scratch: Scratch


@contextmanager
def training(stage: str, params: Params, sections: list[str], **folders: Path) -> Iterator[Work]:
    """Let one process at a time do a training, resumed if it was killed, as one run of the tracker.

    The body trains and writes the outs; what was saved goes away after it.
    """
    inputs = hashes_of(**folders)
    parts = {
        "params": flatten(params, sections),
        "inputs": inputs,
        "code": code_hashes(stage),
        "machine": describe_machine(),
    }
    with claimed(stage, parts) as scratch, tracking.run(stage, params, sections, training=scratch.training) as tracker:
        tell_inputs(tracker, inputs, **folders)
        yield Work(stage, params, sections, folders, inputs, tracker, scratch)


class Observer:
    """Passes a training's events on to its history and to who watches; samples text at each evaluation."""

    def __init__(self, history: History, watch: Watch, sample: Callable[[], str] | None):
        self._history, self._watch, self._sample = history, watch, sample

    def trained(self, step: int, metrics: dict[str, float]) -> None:
        self._history.trained(step, metrics)
        self._watch.trained(step, metrics)

    def evaluated(self, step: int, metrics: dict[str, float]) -> None:
        self._history.evaluated(step, metrics)
        self._watch.evaluated(step, metrics)
        if self._sample:
            self._history.sampled(step, text := self._sample())
            self._watch.sampled(step, text)


class Resumable(Checkpoints):
    """Checkpoints that tell who watches what an earlier process had seen: its records may not have arrived."""

    def __init__(self, folder: Path, history: History, runtime: Runtime, watch: Watch):
        super().__init__(folder, history, runtime)
        self._seen, self._watch = history, watch

    def restore(self, state: State) -> None:
        super().restore(state)
        if state.step:
            self._watch.resumed(state.step, self._seen)


def train(
    work: Work,
    model: nn.Module,
    task: Task[Any],
    section: Training,
    *,
    machine: Machine,
    sample: Callable[[], str] | None = None,
) -> tuple[dict[str, float], History]:
    """Train `model` in place; return the metrics of the weights it ends with, and its history."""
    work.tracker.set_tags({"precision": machine.precision})  # what `auto` took
    history, steps, runtime = History(), total_steps(task, section.epochs), work.params.runtime
    with Watch(work.stage, steps, work.tracker, progress=runtime.progress) as watch:
        folder = work.scratch.folder
        memory = Resumable(folder, history, runtime, watch) if folder else NO_MEMORY
        observer = Observer(history, watch, sample)
        ended = fit(model, task, section, seed=work.params.seed, machine=machine, observer=observer, memory=memory)
    metrics = {
        "steps": len(history.steps),
        "kept_step": ended.step,
        "seen_tokens": history.seen_tokens,
        "train_loss": history.mean_loss(task.steps_per_epoch),
    }
    return metrics | {f"val_{key}": value for key, value in ended.metrics.items()}, history


def papers(work: Work, kind: Kind, *told: str, params: dict[str, Any], metrics: dict[str, float]) -> dict[str, Any]:
    """Return what a model folder says of its making: `origin` and `card`.

    The card tells of the inputs named in `told`; the licence is that of the first.
    """
    sources = {name: read_source(work.folders[name]) for name in told}
    source, data = sources[told[0]], card_lines(work.inputs, sources)
    card = model_card(kind, params=params, metrics=metrics, licence=source.licence, data=data)
    used = work.params.model_dump(include=set(work.sections))
    return {"origin": {"params": used, "inputs": work.inputs, "source": source._asdict()}, "card": card}


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
