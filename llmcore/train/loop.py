"""The training loop: pretraining and both fine-tunings run through it, each as a task.

The loop knows a model, a task and when to do what; the task knows what a batch is. The losses of a step
are summed over targets and divided by the number of all of them, so 4 micro-batches of 2 rows give
the gradient of 8 rows, whatever their lengths.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.base.seeds import derive
from llmcore.train.compute import Compute
from llmcore.train.gradients import step_gradients
from llmcore.train.optimizer import Trainable, make_optimizer
from llmcore.train.schedule import lr_at
from llmcore.train.state import Best, State

if TYPE_CHECKING:
    from llmcore.config.params import TrainingParams


class Batch(Protocol):
    """Rows that go through the model together."""

    @property
    def n_tokens(self) -> int:
        """The number of input tokens, without padding."""
        ...

    @property
    def n_targets(self) -> int:
        """The number of positions that give loss."""
        ...


BatchT = TypeVar("BatchT", bound=Batch)
LoadedT_co = TypeVar("LoadedT_co", bound=Batch, covariant=True)


class Loader(Protocol[LoadedT_co]):
    """The rows of each step."""

    @property
    def steps_per_epoch(self) -> int: ...

    @property
    def n_micro_batches(self) -> int:
        """The number of micro-batches of a step, a power of two."""
        ...

    def micro_batches(self, step: int) -> Sequence[LoadedT_co]:
        """Return the rows of `step`: a pure function of the step. An epoch's last one may have fewer micro-batches."""
        ...


class Task(Protocol[BatchT]):
    """What is learned: the rows of each step, their loss, and how good the model is."""

    @property
    def loader(self) -> Loader[BatchT]: ...

    def loss_sum(self, model: Any, batch: BatchT) -> Tensor:
        """Return the loss summed over the batch's targets."""
        ...

    def evaluate(self, model: Any) -> dict[str, float]:
        """Return validation metrics, `loss` among them; draws no random number."""
        ...


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did."""

    loss: float
    lr: float
    grad_norm: float
    n_tokens: int
    n_targets: int

    @property
    def metrics(self) -> dict[str, float]:
        return {"train/loss": self.loss, "train/lr": self.lr, "train/grad_norm": self.grad_norm}


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
    state = State(model, optimizer)
    checkpointer.restore(state)
    state.follow_first()
    if state.step:
        callback.on_resume(state.step)
    else:
        validate()
    while not finished(state, steps, params.early_stopping_patience):
        step = state.step
        lr = lr_at(step, steps, lr=params.lr, min_lr=params.min_lr, warmup_steps=params.warmup_steps)
        done = train_step(model, task, optimizer, step, lr=lr, grad_clip=params.grad_clip, seed=seed, compute=compute)
        state.step += 1
        callback.on_step_end(state.step, done)
        if state.step % params.eval_interval_steps == 0 or state.step == steps:
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


def train_step(
    model: Trainable,
    task: Task[Any],
    optimizer: torch.optim.Optimizer,
    step: int,
    *,
    lr: float,
    grad_clip: float,
    seed: int,
    compute: Compute,
) -> StepResult:
    """Do one optimizer step: forward and backward of its micro-batches, clipping, update."""
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = lr
    batches = task.loader.micro_batches(step)
    n_targets = sum(batch.n_targets for batch in batches)

    def loss_of(number: int) -> Tensor | None:
        if number >= len(batches) or not batches[number].n_targets:  # an epoch's last batch may be smaller
            return None
        # dropout draws from torch's global generator: seeded by step and micro-batch, it depends on no earlier draw
        torch.manual_seed(derive(seed, "dropout", step, number))
        with compute.autocast():
            loss: Tensor = task.loss_sum(model, batches[number]) / n_targets
            return loss

    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    losses, gradients = step_gradients(trained, loss_of, task.loader.n_micro_batches)
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.grad = gradient
    loss = sum(losses.tolist())
    norm = torch.nn.utils.clip_grad_norm_(trained, grad_clip).item()
    check_finite(step + 1, {"loss": loss, "gradient norm": norm})
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(loss, lr, norm, sum(batch.n_tokens for batch in batches), n_targets)


def check_finite(step: int, figures: dict[str, float]) -> None:
    """UserError if one of a step's figures is NaN or infinite."""
    if not all(map(math.isfinite, figures.values())):
        state = ", ".join(f"{name} {value}" for name, value in figures.items())
        raise UserError(f"training: the loss must stay finite, got {state} at step {step}; lower lr")


@torch.no_grad()
def evaluate(model: Trainable, task: Task[Any], compute: Compute) -> dict[str, float]:
    """Return the task's validation metrics of the model in evaluation mode, as `val/<metric>`."""
    model.eval()
    with compute.autocast():
        return {f"val/{name}": value for name, value in task.evaluate(model).items()}
