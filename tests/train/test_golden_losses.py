"""Twenty steps of each kind of training give the losses of golden_losses.json, bit for bit.

A change that is meant to change no number leaves them as they are. One that is meant to is shown here first; renew the
file, and say in the commit why:

    RENEW_GOLDEN_LOSSES=1 python -m pytest tests/train/test_golden_losses.py

tests/conftest.py sets portable numerics; a CPU that does not have them compares less strictly.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CPU, instruction_tuning, lora_classification, pretraining, training

from llmcore.base.numerics import is_portable
from llmcore.train.history import History
from llmcore.train.loop import fit, total_steps

FILE = Path(__file__).with_name("golden_losses.json")
STEPS = 20
TRAININGS: dict[str, tuple[Callable[[], tuple[Any, Any]], str]] = {
    "pretraining, AdamW": (pretraining, "adamw"),
    "LoRA classification, AdamW": (lora_classification, "adamw"),
    "instruction tuning of all parameters, Muon": (instruction_tuning, "muon"),
}


def losses(name: str) -> dict[str, list[float]]:
    """Train, with an evaluation every five steps; return the losses in training and validation."""
    make, optimizer = TRAININGS[name]
    model, task = make()
    history = History()
    section = training(optimizer=optimizer, epochs=STEPS / task.loader.steps_per_epoch, eval_interval_steps=5)
    assert total_steps(task, section.epochs) == STEPS
    fit(model, task, section, seed=1, compute=CPU, callback=history)
    return {
        "train/loss": [row["train/loss"] for row in history.steps],
        "val/loss": [row["val/loss"] for row in history.evaluations],
    }


@pytest.mark.parametrize("name", TRAININGS)
def test_losses_equal_the_golden_ones(name: str) -> None:
    assert torch.get_num_threads() == 1
    found = losses(name)
    golden = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    if os.environ.get("RENEW_GOLDEN_LOSSES"):
        golden |= {name: {key: [loss.hex() for loss in found[key]] for key in found}}
        FILE.write_text(json.dumps(golden, indent=2) + "\n", encoding="utf-8")
        pytest.skip("golden_losses.json is renewed")
    expected = {key: [float.fromhex(loss) for loss in golden[name][key]] for key in golden[name]}
    if is_portable():
        assert found == expected
    else:
        assert found == pytest.approx(expected, rel=1e-5)
