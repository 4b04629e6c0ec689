"""The training loop: pretraining and both fine-tunings run through it, each as a task.

The loop knows a model, a task and when to do what; the task knows what a batch is. Losses of a step
are summed over supervised positions and divided by all of them, so 4 micro-batches of 2 rows give
the gradient of 8 rows, whatever their lengths.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from llmcore.compute import Machine
from llmcore.errors import UserError
from llmcore.seeds import derive
from llmcore.train.optimizer import make_optimizer
from llmcore.train.schedule import lr_at
from llmcore.train.state import Best, State

if TYPE_CHECKING:
    from llmcore.params import Training


class Batch(Protocol):
    """Rows that go through the model together."""

    @property
    def supervised(self) -> int:
        """The number of positions that give loss."""
        ...


BatchT = TypeVar("BatchT", bound=Batch)


class Task(Protocol[BatchT]):
    """What is learned: which rows make a step, their loss, and how good the model is."""

    @property
    def steps_per_epoch(self) -> int: ...

    def micro_batches(self, step: int) -> Sequence[BatchT]:
        """Return the rows of `step`: a pure function of the step."""
        ...

    def loss_sum(self, model: Any, batch: BatchT) -> Tensor:
        """Return the loss summed over the batch's supervised positions."""
        ...

    def evaluate(self, model: Any) -> dict[str, float]:
        """Return validation metrics, `loss` among them; draws no random number."""
        ...


class Observer(Protocol):
    """Who is told what happens: history, progress bar, tracker. What it does changes no weight."""

    def trained(self, step: int, metrics: dict[str, float]) -> None: ...

    def evaluated(self, step: int, metrics: dict[str, float]) -> None: ...


class Memory(Protocol):
    """What outlives a killed process; `llmcore.train.resume` keeps it on disk."""

    def restore(self, state: State) -> None:
        """Put back what was kept; leave the state as it is, at step 0, if nothing was."""
        ...

    def passed(self, state: State, *, last: bool) -> None:
        """Keep the training as it stands if it is time."""
        ...


class NoMemory:
    """Keeps nothing: every training begins at its first step."""

    def restore(self, state: State) -> None:
        return

    def passed(self, state: State, *, last: bool) -> None:
        return


NO_MEMORY = NoMemory()


def total_steps(task: Task[Any], epochs: float) -> int:
    """Return the optimizer steps of a training that is not stopped early, one at least."""
    return max(1, round(epochs * task.steps_per_epoch))


def fit(
    model: nn.Module,
    task: Task[Any],
    training: "Training",
    *,
    seed: int,
    machine: Machine,
    observer: Observer,
    memory: Memory = NO_MEMORY,
) -> Best:
    """Train `model` in place, from where `memory` left it; return the evaluation of the weights it ends with.

    It is evaluated before the first step, every `eval_interval_steps` and after the last. With
    `patience_evaluations` it stops after so many evaluations without a lower loss than the best; with `keep: best`
    it ends with the weights of the best one. UserError if a loss or the gradient is not finite; in a training
    step, the weights of the step before are still whole then.
    """

    def validate() -> None:
        metrics = evaluate(model, task, machine)
        check_finite(state.step, {"validation loss": metrics["loss"]})
        state.evaluated(metrics, keep=training.keep == "best")
        observer.evaluated(state.step, metrics)

    optimizer = make_optimizer(model, training)
    steps, state = total_steps(task, training.epochs), State(model, optimizer)
    memory.restore(state)
    if not state.step:
        validate()
    while not finished(state, steps, training.patience_evaluations):
        step = state.step
        lr = lr_at(step, steps, lr=training.lr, min_lr=training.min_lr, warmup_steps=training.warmup_steps)
        done = train_step(model, task, optimizer, step, lr=lr, grad_clip=training.grad_clip, seed=seed, machine=machine)
        state.step += 1
        observer.trained(state.step, done)
        if state.step % training.eval_interval_steps == 0 or state.step == steps:
            validate()
        memory.passed(state, last=finished(state, steps, training.patience_evaluations))
    model.eval()
    if training.keep == "best" and state.best:
        state.take_best()
        return state.best
    return Best(state.step, state.metrics, {})


def finished(state: State, steps: int, patience_evaluations: int) -> bool:
    """Return whether a training ends here: all steps done, or too long without a better evaluation."""
    worse = state.best.evaluations_since if state.best else 0
    return state.step >= steps or (0 < patience_evaluations <= worse)


def train_step(
    model: nn.Module,
    task: Task[Any],
    optimizer: torch.optim.Optimizer,
    step: int,
    *,
    lr: float,
    grad_clip: float,
    seed: int,
    machine: Machine,
) -> dict[str, float]:
    """Do one optimizer step and return its loss, learning rate, gradient norm and supervised positions."""
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = lr
    batches = task.micro_batches(step)
    supervised = sum(batch.supervised for batch in batches)
    loss = 0.0
    for number, batch in enumerate(batches):
        if not batch.supervised:  # nothing to learn from; dividing by it would give NaN
            continue
        # dropout draws from torch's global generator: seeded by place, it depends on no earlier draw
        torch.manual_seed(derive(seed, "dropout", step, number))
        with machine.autocast():
            partial = task.loss_sum(model, batch) / supervised
        partial.backward()
        loss += partial.item()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(trained, grad_clip).item()
    check_finite(step + 1, {"loss": loss, "gradient norm": norm})
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"loss": loss, "lr": lr, "grad_norm": norm, "supervised": supervised}


def check_finite(step: int, figures: dict[str, float]) -> None:
    """UserError if one of a step's figures is NaN or infinite."""
    if not all(map(math.isfinite, figures.values())):
        state = ", ".join(f"{name} {value}" for name, value in figures.items())
        raise UserError(f"training: the loss must stay finite, got {state} at step {step}; lower lr")


@torch.no_grad()
def evaluate(model: nn.Module, task: Task[Any], machine: Machine) -> dict[str, float]:
    """Return the task's validation metrics of the model in evaluation mode."""
    model.eval()
    with machine.autocast():
        return task.evaluate(model)
