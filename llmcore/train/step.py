"""One optimizer step: forward and backward of its micro-batches, clipping, update.

A GPU computes behind the program, which waits for it only where it reads a number. So there a step is given to the
device without reading one, and its loss is read when the next step is on its way. Meanwhile a flag on the device keeps
every update away once a loss is not finite.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.base.seeds import derive
from llmcore.train.compute import Compute
from llmcore.train.gradients import step_gradients
from llmcore.train.optimizer import Trainable
from llmcore.train.sharding import sharded_backward
from llmcore.train.task import Task


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


class PendingStep:
    """A step that the device is given; `result` waits for its figures.

    `losses` are those of the micro-batches, `number` counts the steps from 1.
    """

    def __init__(self, number: int, losses: Tensor, norm: Tensor, *, lr: float, n_tokens: int, n_targets: int):
        self.number = number
        self.figures = torch.cat([losses, norm[None]])
        # copied right behind the step: a copy that is asked for later would wait for the steps between
        self._copy = self.figures.to("cpu", non_blocking=self.figures.is_cuda)
        self._copied = torch.cuda.current_stream().record_event() if self.figures.is_cuda else None
        self._known: dict[str, Any] = {"lr": lr, "n_tokens": n_tokens, "n_targets": n_targets}

    def result(self) -> StepResult:
        """Return what the step did; UserError if its loss or its gradient is not finite."""
        if self._copied:
            self._copied.synchronize()
        *losses, norm = self._copy.tolist()
        loss = sum(losses)
        check_finite(self.number, {"loss": loss, "gradient norm": norm})
        return StepResult(loss=loss, grad_norm=norm, **self._known)


def start_step(
    model: Trainable,
    task: Task[Any],
    optimizer: torch.optim.Optimizer,
    step: int,
    *,
    lr: float,
    grad_clip: float,
    seed: int,
    compute: Compute,
) -> PendingStep:
    """Do the step after `step` others. Where `compute.reads_late`, the device is only given it, and no number is read.

    After a loss or a gradient that is not finite no weight changes: here it is a UserError, late its `result` is one,
    and that of no step before it.
    """
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = lr
    batches = task.loader.micro_batches(step)
    n_targets = sum(batch.n_targets for batch in batches)

    def loss_of(number: int) -> Tensor | None:
        is_empty = number >= len(batches) or not batches[number].n_targets  # an epoch's last batch may be smaller
        if is_empty and not compute.is_sharded:
            return None
        # dropout draws from torch's global generator: seeded by step and micro-batch, it depends on no earlier draw
        torch.manual_seed(derive(seed, "dropout", step, number))
        with compute.autocast():
            loss: Tensor = task.loss_sum(model, batches[0 if is_empty else number]) / max(1, n_targets)
            return loss * 0 if is_empty else loss  # with shards, every process goes through the blocks as often

    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if compute.is_sharded:
        losses = sharded_backward(loss_of, task.loader.n_micro_batches, compute.device)
    else:
        losses, gradients = step_gradients(trained, loss_of, task.loader.n_micro_batches)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
    norm: Any = torch.nn.utils.clip_grad_norm_(trained, grad_clip)
    norm = norm.full_tensor() if compute.is_sharded else norm
    n_tokens = sum(batch.n_tokens for batch in batches)
    done = PendingStep(step + 1, losses, norm, lr=lr, n_tokens=n_tokens, n_targets=n_targets)
    if compute.reads_late:
        skip_updates_if_not_finite(optimizer, done.figures)
    else:
        done.result()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return done


def train_step(
    model: Trainable, task: Task[Any], optimizer: torch.optim.Optimizer, step: int, **how: Any
) -> StepResult:
    """Do a step as `start_step` does, and wait for it."""
    return start_step(model, task, optimizer, step, **how).result()


@torch.no_grad()
def skip_updates_if_not_finite(optimizer: Any, figures: Tensor) -> None:
    """Let the optimizer change nothing from now on if a figure is NaN or infinite, without reading it.

    `found_inf` is what torch's fused optimizers ask before an update; GradScaler sets it too.
    """
    broken = 1 - figures.isfinite().all().float()
    before = getattr(optimizer, "found_inf", None)
    optimizer.found_inf = broken if before is None else torch.maximum(before, broken)


def check_finite(step: int, figures: dict[str, float]) -> None:
    """UserError if one of a step's figures is NaN or infinite."""
    if not all(map(math.isfinite, figures.values())):
        state = ", ".join(f"{name} {value}" for name, value in figures.items())
        raise UserError(f"training: the loss must stay finite, got {state} at step {step}; lower lr")
