"""The training loop: pretraining and both fine-tunings run through it, each as a task.

The loop knows a model, a task and when to do what; the task knows what a batch is. The losses of a step
are summed over targets and divided by the number of all of them, so 4 micro-batches of 2 rows give
the gradient of 8 rows, whatever their lengths.
"""

from typing import TYPE_CHECKING, Any, Protocol

import torch

from llmcore.train.compute import Compute
from llmcore.train.optimizer import Trainable, make_optimizer
from llmcore.train.schedule import lr_at
from llmcore.train.state import Best, State
from llmcore.train.step import PendingStep, StepResult, check_finite, start_step
from llmcore.train.task import Task

if TYPE_CHECKING:
    from llmcore.config.params import TrainingParams


class TrainerCallback(Protocol):
    """Follows a training: history, progress bar, tracker. It changes no weight."""

    def on_resume(self, step: int) -> None: ...

    def on_step_end(self, step: int, result: StepResult) -> None: ...

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None: ...


class Checkpointer(Protocol):
    """Keeps a training across processes; `llmcore.train.resume` keeps it on disk."""

    def restore(self, state: State) -> None:
        """Restore what was saved; leave the state as it is, at step 0, if nothing was."""
        ...

    def after_step(self, state: State, *, last: bool) -> None:
        """Save the training if it is time."""
        ...


class NullCheckpointer:
    """Saves nothing: every training begins at its first step."""

    def restore(self, state: State) -> None:
        return

    def after_step(self, state: State, *, last: bool) -> None:
        return


def total_steps(task: Task[Any], epochs: float) -> int:
    """Return the optimizer steps of a training without early stopping, one at least."""
    return max(1, round(epochs * task.loader.steps_per_epoch))


def fit(
    model: Trainable,
    task: Task[Any],
    params: "TrainingParams",
    *,
    seed: int,
    compute: Compute,
    callback: TrainerCallback,
    checkpointer: Checkpointer | None = None,
) -> Best:
    """Train `model` in place, from its last checkpoint; return the evaluation of the weights it ends with.

    It is evaluated before the first step, every `eval_interval_steps` and after the last. With
    `early_stopping_patience` it stops after that many evaluations without a lower loss than the best; with
    `keep_checkpoint: best` it ends with the weights of the best one. UserError if a loss or the gradient is not
    finite; in a training step, the weights are still those of the step before.
    """

    def validate() -> None:
        metrics = evaluate(model, task, compute)
        check_finite(state.step, {"validation loss": metrics["val/loss"]})
        state.evaluated(metrics, keep_weights=params.keep_checkpoint == "best")
        callback.on_evaluate(state.step, metrics)

    checkpointer = checkpointer or NullCheckpointer()
    optimizer = make_optimizer(model, params)
    steps = total_steps(task, params.epochs)
    pending = PendingSteps(callback)
    state = State(model, optimizer, settle=pending.settle)
    checkpointer.restore(state)
    state.follow_first(is_sharded=compute.is_sharded)
    if state.step:
        callback.on_resume(state.step)
    else:
        validate()
    while not finished(state, steps, params.early_stopping_patience):
        lr = lr_at(state.step, steps, lr=params.lr, min_lr=params.min_lr, warmup_steps=params.warmup_steps)
        how: dict[str, Any] = {"lr": lr, "grad_clip": params.grad_clip, "seed": seed, "compute": compute}
        pending.add(start_step(model, task, optimizer, state.step, **how), reads_late=compute.reads_late)
        state.step += 1
        if state.step % params.eval_interval_steps == 0 or state.step == steps:
            pending.settle()
            validate()
        checkpointer.after_step(state, last=finished(state, steps, params.early_stopping_patience))
    model.eval()
    if params.keep_checkpoint == "best" and state.best:
        state.take_best()
        return state.best
    return Best(state.step, state.metrics, {})


class PendingSteps:
    """Holds the step whose result is not read yet, if there is one, and gives results to the callback."""

    def __init__(self, callback: TrainerCallback):
        self._callback = callback
        self._step: PendingStep | None = None

    def add(self, step: PendingStep, *, reads_late: bool) -> None:
        """Read the step before this one, which the device computes meanwhile, and this one unless it is read late."""
        self.settle()
        self._step = step
        if not reads_late:
            self.settle()

    def settle(self) -> None:
        """Wait for the last step; UserError if its loss is not finite."""
        if step := self._step:
            self._step = None
            self._callback.on_step_end(step.number, step.result())


def finished(state: State, steps: int, early_stopping_patience: int) -> bool:
    """Return whether a training ends here: all steps done, or too many evaluations without a better one."""
    worse = state.best.evaluations_since if state.best else 0
    return state.step >= steps or (0 < early_stopping_patience <= worse)


@torch.no_grad()
def evaluate(model: Trainable, task: Task[Any], compute: Compute) -> dict[str, float]:
    """Return the task's validation metrics of the model in evaluation mode, as `val/<metric>`."""
    model.eval()
    with compute.autocast():
        return {f"val/{name}": value for name, value in task.evaluate(model).items()}
