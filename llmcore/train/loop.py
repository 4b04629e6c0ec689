"""The training loop: pretraining and both fine-tunings run through it, each as a task.

The loop knows a model, a task and when to do what; the task knows what a batch is. The losses of a step
are summed over targets and divided by the number of all of them, so 4 micro-batches of 2 rows give
the gradient of 8 rows, whatever their lengths.
"""

from collections import deque
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

    def settle(still_pending: int = 0) -> None:
        while len(pending) > still_pending:
            done = pending.popleft()
            callback.on_step_end(done.number, done.result())

    checkpointer = checkpointer or NullCheckpointer()
    optimizer = make_optimizer(model, params)
    steps = total_steps(task, params.epochs)
    pending: deque[PendingStep] = deque()
    state = State(model, optimizer, settle=settle)
    checkpointer.restore(state)
    if not compute.is_sharded:  # each process has restored its part
        state.follow_first()
    if state.step:
        callback.on_resume(state.step)
    else:
        validate()
    while not finished(state, steps, params.early_stopping_patience):
        step = state.step
        lr = lr_at(step, steps, lr=params.lr, min_lr=params.min_lr, warmup_steps=params.warmup_steps)
        done = start_step(model, task, optimizer, step, lr=lr, grad_clip=params.grad_clip, seed=seed, compute=compute)
        pending.append(done)
        state.step += 1
        settle(still_pending=1 if compute.reads_late else 0)
        if state.step % params.eval_interval_steps == 0 or state.step == steps:
            settle()
            validate()
        checkpointer.after_step(state, last=finished(state, steps, params.early_stopping_patience))
    model.eval()
    if params.keep_checkpoint == "best" and state.best:
        state.take_best()
        return state.best
    return Best(state.step, state.metrics, {})


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
