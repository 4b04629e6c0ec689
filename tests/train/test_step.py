"""A step for a GPU reads no number before the next one has begun, and otherwise is the step of a CPU.

Run on the CPU, with the reading put off as on a GPU.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import CPU, TRAININGS, equal_bits, lora_classification, pretraining, training, weights
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from train.broken import check_that_no_weight_changes

from llmcore.train.history import History
from llmcore.train.loop import fit
from llmcore.train.optimizer import make_optimizer
from llmcore.train.step import start_step

LATE = replace(CPU, reads_late=True)
Made = tuple[Any, Any]


class Unread(TorchDispatchMode):
    """Fails where a GPU would be waited for: a tensor's number is read, or the length of a result depends on one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket._qualified_op_name.removeprefix("aten::")
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique"), name
        masks = [index for index in (args[1] if name.startswith("index") else []) if isinstance(index, Tensor)]
        assert not any(mask.dtype == torch.bool for mask in masks), "an index that is a mask is counted"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("make", TRAININGS)
def test_no_number_is_read_in_a_step(make: Callable[[], Made], optimizer: str) -> None:
    model, task = make()
    trained = make_optimizer(model, training(optimizer=optimizer))
    how: dict[str, Any] = {"lr": 1e-3, "grad_clip": 1.0, "seed": 0, "compute": LATE}
    with Unread():
        start_step(model, task, trained, 0, **how)
        start_step(model, task, trained, 1, **how)
    with pytest.raises(AssertionError), Unread():
        torch.ones(1).item()
    with pytest.raises(AssertionError), Unread():
        torch.ones(2)[torch.tensor([True, False])]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("make", [pretraining, lora_classification])
def test_reading_late_changes_no_byte(make: Callable[[], Made], optimizer: str) -> None:
    found = []
    for compute in (CPU, LATE):
        model, task = make()
        history = History()
        section = training(optimizer=optimizer, eval_interval_steps=5)
        fit(model, task, section, seed=1, compute=compute, callback=history)
        found.append((weights(model), history.dump()))
    assert equal_bits(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_after_a_loss_that_is_not_finite_no_weight_changes_though_a_step_was_under_way(optimizer: str) -> None:
    check_that_no_weight_changes(LATE, optimizer)
