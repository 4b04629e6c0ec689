"""Blocks that are computed again in the backward pass, or compiled, give the same training."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import (
    CPU,
    equal_bits,
    llama_pretraining,
    lora_classification,
    pretraining,
    training,
    weights,
)

from llmcore.model.costs import ActivationCounter
from llmcore.train.blocks import trained_model
from llmcore.train.compute import Compute
from llmcore.train.history import History
from llmcore.train.loop import fit
from llmcore.train.step import StepResult

TASKS = [pretraining, llama_pretraining, lora_classification]
CHECKPOINTED = replace(CPU, activation_checkpointing=True)
Made = tuple[Any, Any]


def trained(make: Callable[[], Made], compute: Compute) -> tuple[dict[str, torch.Tensor], History]:
    model, task = make()
    history = History()
    with trained_model(model, compute) as prepared:
        fit(prepared, task, training(epochs=1.0), seed=1, compute=compute, callback=history)
    return weights(model), history


@pytest.mark.parametrize("make", TASKS)
def test_computing_the_blocks_again_changes_no_byte(make: Callable[[], Made]) -> None:
    """With dropout, whose random numbers are drawn again."""
    plain, history = trained(make, CPU)
    again, same_history = trained(make, CHECKPOINTED)
    assert equal_bits(plain, again)
    assert history.dump() == same_history.dump()


@pytest.mark.parametrize("make", [pretraining, llama_pretraining])
def test_computing_the_blocks_again_keeps_fewer_bytes(make: Callable[[], Made]) -> None:
    def kept(compute: Compute) -> int:
        model, task = make()
        with trained_model(model.train(), compute), ActivationCounter() as counter:
            task.loss_sum(model, task.loader.micro_batches(0)[0])
        return counter.bytes

    assert kept(CHECKPOINTED) < 0.3 * kept(CPU)


def test_the_blocks_are_as_before_after_the_training() -> None:
    model, _ = pretraining()
    names = list(model.state_dict())
    with trained_model(model, CHECKPOINTED) as prepared:
        assert list(prepared.state_dict()) == names
        assert all("forward" in vars(block) for block in model.body.blocks)
    assert not any("forward" in vars(block) for block in model.body.blocks)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("compute", [CPU, CHECKPOINTED])
def test_compiled_blocks_learn_nearly_the_same(compute: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, too."""
    monkeypatch.setattr("llmcore.base.matmul._PORTABLE", False)  # params.yaml allows both with native numerics alone
    found = [trained(pretraining, each)[1].steps for each in (CPU, replace(compute, compile=True))]
    plain, compiled = ([row["train/loss"] for row in steps] for steps in found)
    assert compiled == pytest.approx(plain, abs=1e-5)


class Restarted(History):
    """Forgets what was compiled, as a new process has not compiled it yet."""

    def on_step_end(self, step: int, result: StepResult) -> None:
        super().on_step_end(step, result)
        if step == 3:
            torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_restart_in_a_compiled_training_changes_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the steps have several lengths."""
    monkeypatch.setattr("llmcore.base.matmul._PORTABLE", False)
    compute = replace(CPU, compile=True)
    found = []
    for history in (History(), Restarted()):
        torch._dynamo.reset()
        model, task = pretraining()
        with trained_model(model, compute) as prepared:
            fit(prepared, task, training(epochs=1.0), seed=1, compute=compute, callback=history)
        found.append(weights(model))
    assert equal_bits(*found)
