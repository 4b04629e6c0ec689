"""A training gives the same bytes in one, two or four processes, also when another number of them resumes it."""

import functools
from pathlib import Path

import pytest
from torchrun import run_script

from llmcore.base import shared_memory

# each kind of training with dropout and four micro-batches per step; the optimizer is AdamW or Muon
TRAINING = """
import hashlib, sys
from pathlib import Path
from llmcore.base.numerics import settle_numerics
precision, folder, last_step, memory = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
settle_numerics("portable" if precision == "fp32" else "native", precision, "cpu")
import torch
torch.set_num_threads(1)
from tiny import EVERY_STEP, instruction_tuning, lora_classification, pretraining, training
from llmcore.base import parallel, shared_memory
from llmcore.train.compute import Compute
from llmcore.train.history import History
from llmcore.train.loop import NullCheckpointer, fit
from llmcore.train.resume import DiskCheckpointer

shared_memory.FOLDER = Path(memory)

class Stopped(DiskCheckpointer):
    def after_step(self, state, *, last):
        super().after_step(state, last=last)
        if state.step == last_step:
            self.wait()
            raise SystemExit

digest = hashlib.sha256()
for make, optimizer in ((pretraining, "adamw"), (lora_classification, "adamw"), (instruction_tuning, "muon")):
    model, task = make()
    task.loader.micro_batch_size, task.loader.n_micro_batches = 1, 4
    history = History()
    place = folder / make.__name__
    place.mkdir(exist_ok=True)
    checkpointer = Stopped(place, history, EVERY_STEP) if parallel.is_first() else NullCheckpointer()
    params = training(optimizer=optimizer, eval_interval_steps=3, keep_checkpoint="best")
    try:
        fit(model, task, params, seed=1, compute=Compute(torch.device("cpu"), precision), callback=history,
            checkpointer=checkpointer)
    except SystemExit:
        print("stopped", flush=True)
        raise
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    digest.update(repr(history.evaluations + history.steps).encode())
if parallel.is_first():
    print(digest.hexdigest(), flush=True)
"""


def train(
    folder: Path, processes: int, precision: str = "fp32", last_step: int = 0, memory: Path = shared_memory.FOLDER
) -> str:
    """Return the hash of three trainings, or "stopped" after `last_step` of the first one."""
    script = folder / "training.py"
    script.write_text(TRAINING)
    done = run_script(script, processes, precision, str(folder), str(last_step), str(memory))
    assert done.stdout or done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> "functools._lru_cache_wrapper[str]":
    return functools.cache(lambda precision: train(tmp_path_factory.mktemp("alone"), 1, precision))


@pytest.mark.parametrize(
    ("processes", "precision"),
    [
        (2, "bf16"),
        pytest.param(4, "fp32", marks=pytest.mark.exhaustive),  # below, through sockets
        pytest.param(2, "fp32", marks=pytest.mark.exhaustive),
        pytest.param(4, "bf16", marks=pytest.mark.exhaustive),
    ],
)
def test_the_number_of_processes_changes_no_byte(tmp_path: Path, alone, processes: int, precision: str) -> None:
    assert train(tmp_path, processes, precision) == alone(precision)


@pytest.mark.parametrize(("before", "after"), [(4, 1), pytest.param(1, 2, marks=pytest.mark.exhaustive)])
def test_a_training_is_resumed_by_another_number_of_processes(tmp_path: Path, alone, before: int, after: int) -> None:
    assert train(tmp_path, before, last_step=4) == "stopped"
    assert train(tmp_path, after) == alone("fp32")


def test_without_shared_memory_the_sum_goes_through_sockets(tmp_path: Path, alone) -> None:
    assert train(tmp_path, 4, memory=tmp_path / "none") == alone("fp32")
