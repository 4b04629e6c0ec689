"""Shared by the training stages: checkpointed training, its tables, tracking."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcore.base import parallel
from llmcore.base.errors import UserError
from llmcore.base.files import fresh_folder, sha256_file, write_csv, write_json
from llmcore.base.origin import read_source
from llmcore.config.params import Params, TrainingParams
from llmcore.config.stages import stage_info
from llmcore.dvc.files import code_hashes
from llmcore.model.weights import WEIGHTS_FILE
from llmcore.run.inputs import card_facts, hashes_of, log_inputs
from llmcore.run.live_tables import EVALUATIONS_FILE, STEPS_FILE
from llmcore.run.progress import CompositeCallback, ProgressReporter
from llmcore.tracking.run import params_of, tracked_run
from llmcore.tracking.tracker import Tracker
from llmcore.train.blocks import trained_model
from llmcore.train.compute import Compute, describe_machine
from llmcore.train.history import History
from llmcore.train.key import Parts, differences
from llmcore.train.loop import Checkpointer, NullCheckpointer, fit, total_steps
from llmcore.train.optimizer import Trainable
from llmcore.train.resume import DiskCheckpointer
from llmcore.train.scratch import Scratch, locked_scratch
from llmcore.train.sharded_checkpoint import ShardedCheckpointer
from llmcore.train.task import Task

MAX_LISTED_DIFFERENCES = 5


@dataclass(frozen=True)
class TrainingRun:
    """One training: its stage, params and inputs, its tracker, and where it is checkpointed."""

    stage: str
    params: Params
    compute: Compute
    tables: Path  # written to
    folders: dict[str, Path]
    inputs: dict[str, str]  # their hashes
    tracker: Tracker
    scratch: Scratch

    def origin(self, licence_from: str) -> dict[str, Any]:
        """Return the model folder's origin.json; its licence is that of the input `licence_from`."""
        used = self.params.model_dump(include=set(stage_info(self.stage).params))
        source = read_source(self.folders[licence_from])
        return {"params": used, "inputs": self.inputs, "source": source._asdict()}

    def write_results(self, out: Path, metrics_file: Path, metrics: dict[str, float], history: History) -> None:
        """Write the metrics and the history of a model that was saved to `out`, and tell the tracker."""
        write_json(metrics_file, metrics)
        write_csv(self.tables / STEPS_FILE, history.steps)
        write_csv(self.tables / EVALUATIONS_FILE, history.evaluations)
        self.tracker.log_metrics(metrics)
        self.tracker.set_tags({"model_sha256": sha256_file(out / WEIGHTS_FILE)})

    def write_card_facts(self, inputs: Sequence[str], params: dict[str, Any]) -> None:
        """Write what the model card tells: the named inputs and the params."""
        folders = {name: self.folders[name] for name in inputs}
        write_json(fresh_folder(self.tables) / "card.json", card_facts(self.inputs, params, **folders))


@contextmanager
def training_run(stage: str, params: Params, compute: Compute, tables: Path, **folders: Path) -> Iterator[TrainingRun]:
    """Lock a training, so that one process at a time runs it, and track it as one run, also when it is resumed.

    `folders` are its inputs, `tables` is the folder of its curves. The body trains and writes the outputs; checkpoints
    are removed after it.
    """
    inputs = hashes_of(**folders)
    parts = {
        "params": params_of(stage, params),
        "inputs": inputs,
        "code": code_hashes(stage),
        "machine": describe_machine(),
    }
    _check_same(stage, parts)
    with (
        locked_scratch(stage, parts) if parallel.is_first() else nullcontext(Scratch(None, "")) as scratch,
        tracked_run(stage, params, training=scratch.training) as tracker,
    ):
        log_inputs(tracker, inputs, **folders)
        tracker.set_tags({"precision": compute.precision})  # what `auto` chose
        yield TrainingRun(stage, params, compute, tables, folders, inputs, tracker, scratch)


def _check_same(stage: str, parts: Parts) -> None:
    """UserError in every process if one of another machine computes something else than the first."""
    first, *others = parallel.gather(parts)
    for number, other in enumerate(others, 1):
        if found := differences(first, other):
            machine = number * parallel.n_machines() // parallel.n_processes()
            rule = f"the machine of NODE_RANK {machine} must compute what the first does, and there"
            listed = ", ".join(found[:MAX_LISTED_DIFFERENCES])
            raise UserError(f"{stage}: {rule} {listed}; give both the same commit, params.yaml and inputs")


def train(
    run: TrainingRun,
    model: Trainable,
    task: Task[Any],
    section: TrainingParams,
    *,
    sample: Callable[[], str] | None = None,
) -> tuple[dict[str, float], History]:
    """Train `model` in place; return the metrics of the weights it ends with, and its history.

    Only the first process returns; the others have done their part. A sharded model generates no `sample` before it
    is whole again.
    """
    history = History()
    steps = total_steps(task, section.epochs)
    progress = run.params.runtime.progress
    generates = parallel.is_first() and not run.compute.is_sharded
    with (
        trained_model(model, run.compute) as trained,
        ProgressReporter(run.stage, steps, history, run.tracker, tables=run.tables, progress=progress) as reporter,
    ):
        best = fit(
            trained,
            task,
            section,
            seed=run.params.seed,
            compute=run.compute,
            callback=CompositeCallback(history, reporter, sample if generates else None),
            checkpointer=checkpointer_of(run, history),
        )
    parallel.leave_to_first()
    metrics = {
        "steps": len(history.steps),
        "best_step": best.step,
        "tokens_seen": history.tokens_seen,
        "n_target_tokens": history.n_target_tokens,
        "train/loss": history.mean_loss(task.loader.steps_per_epoch),
    }
    return metrics | best.metrics, history


def checkpointer_of(run: TrainingRun, history: History) -> Checkpointer:
    """Return what saves the training: the first process, or with shards all of them; nothing without a folder."""
    if run.params.compute.parallel == "shard":  # also in one process, which another number of them resumes
        folder = parallel.from_first(run.scratch.folder)
        return ShardedCheckpointer(folder, history, run.params.runtime) if folder else NullCheckpointer()
    folder = run.scratch.folder
    return DiskCheckpointer(folder, history, run.params.runtime) if folder else NullCheckpointer()
