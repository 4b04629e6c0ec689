"""Sharded training learns what the replicated one does, with a part of the model in each process.

Real processes with gloo on the CPU; nothing here has run on a GPU.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from torchrun import run_script

# 20 steps of each training, four micro-batches each; the first process prints its history and the bytes that it held
TRAINING = """
import hashlib, json, os, signal, sys
from pathlib import Path
from llmcore.base.numerics import settle_numerics
settle_numerics("native", "fp32", "cpu")
import torch
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
import tiny
from tiny import EVERY_STEP
from llmcore.base import parallel
from llmcore.train import resume
from llmcore.train.blocks import trained_model
from llmcore.train.compute import Compute
from llmcore.train.history import History
from llmcore.train.loop import fit
from llmcore.train.sharded_checkpoint import ShardedCheckpointer

resume.MAX_WRITE_SHARE = 1e9
how, folder, dies_after, *trainings = sys.argv[1:]

class Checkpointer(ShardedCheckpointer):
    bytes = 0

    def after_step(self, state, *, last):
        super().after_step(state, last=last)
        held = {name: tensor for name, tensor in state.tensors().items() if name.startswith(("weights/", "optimizer/"))}
        held = [x.to_local() if hasattr(x, "to_local") else x for x in held.values()]
        self.bytes = sum(x.untyped_storage().nbytes() for x in held)
        if state.step == int(dies_after) and parallel.rank() == parallel.n_processes() - 1:
            os.kill(os.getpid(), signal.SIGKILL)

def train(name, optimizer, precision):
    model, task = getattr(tiny, name)()
    if name == "pretraining":
        task = tiny.language_task(documents=23)  # an epoch's last step lacks a micro-batch
    task.loader.micro_batch_size, task.loader.n_micro_batches = 1, 4
    is_sharded = how == "shard" and parallel.n_processes() > 1
    compute = Compute(torch.device("cpu"), precision, is_sharded=is_sharded, activation_checkpointing=is_sharded,
                      reads_late=is_sharded)
    params = tiny.training(optimizer=optimizer, eval_interval_steps=5, keep_checkpoint="best", lr=3e-3, min_lr=3e-3,
                           epochs=20 / task.loader.steps_per_epoch)
    history = History()
    place = Path(folder) / name
    place.mkdir(exist_ok=True)
    checkpointer = Checkpointer(place, history, EVERY_STEP)
    with trained_model(model, compute) as trained:
        fit(trained, task, params, seed=1, compute=compute, callback=history, checkpointer=checkpointer)
    weights = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values()))
    losses = [[row["train/loss"] for row in history.steps], [row["val/loss"] for row in history.evaluations]]
    return {"losses": sum(losses, []), "weights": weights.hexdigest(), "bytes": checkpointer.bytes,
            "norm": sum(parameter.square().sum().item() for parameter in model.parameters())}

found = {name: train(*name.split()) for name in trainings}
if parallel.is_first():
    print(json.dumps(found))
"""
PRETRAINING = "pretraining adamw fp32"
LORA = "lora_classification adamw fp32"
TRAININGS = {  # and how near their losses are; in bf16 a sharded norm is rounded too
    PRETRAINING: 1e-6,
    "llama_pretraining muon fp32": 1e-6,
    LORA: 1e-6,
    "instruction_tuning muon bf16": 2e-3,
}
STEPS, EVALUATIONS = 20, 5


def train(folder: Path, processes: int, *trainings: str, how: str = "shard", dies_after: int = 0) -> dict[str, Any]:
    """Return what the first process printed; nothing if the last one died."""
    script = folder / "training.py"
    script.write_text(TRAINING)
    done = run_script(script, processes, how, str(folder), str(dies_after), *trainings)
    assert bool(done.returncode) == bool(dies_after), done.stderr
    return json.loads(done.stdout) if done.stdout else {}


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(tmp_path_factory.mktemp("sharded"), 2, *TRAININGS)


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(tmp_path_factory.mktemp("replicated"), 1, *TRAININGS, how="replicate")


@pytest.mark.parametrize("name", TRAININGS)
def test_losses_are_those_of_the_replicated_training(sharded: Any, replicated: Any, name: str) -> None:
    """Two processes beside one. The sharded ones compute the blocks again and read losses late, too, as on GPUs."""
    assert len(sharded[name]["losses"]) == STEPS + EVALUATIONS
    assert sharded[name]["losses"] == pytest.approx(replicated[name]["losses"], abs=TRAININGS[name])
    assert sharded[name]["norm"] == pytest.approx(replicated[name]["norm"], rel=10 * TRAININGS[name])


@pytest.mark.parametrize("name", TRAININGS)
def test_a_process_holds_half_of_the_weights_and_of_the_optimizer(sharded: Any, replicated: Any, name: str) -> None:
    assert 0.5 <= sharded[name]["bytes"] / replicated[name]["bytes"] < 0.52  # tensors of odd length are rounded up


def test_a_killed_training_ends_with_the_bytes_of_one_that_was_not(tmp_path: Path, sharded: Any) -> None:
    """The last process dies; the newest checkpoint is damaged, so the one before is used."""
    assert train(tmp_path, 2, PRETRAINING, dies_after=7) == {}
    before, newest = sorted((tmp_path / "pretraining").glob("step-*"))[-2:]
    assert (before.name, newest.name) == ("step-000006", "step-000007")
    parts = {"state-00000-of-00002.safetensors", "state-00001-of-00002.safetensors"}
    assert {path.name for path in newest.iterdir()} == {*parts, "state.json", "complete.json"}
    (newest / "state-00001-of-00002.safetensors").unlink()
    assert train(tmp_path, 2, PRETRAINING) == {PRETRAINING: sharded[PRETRAINING]}


@pytest.mark.exhaustive
def test_other_numbers_of_processes_resume_it(tmp_path: Path, sharded: Any) -> None:
    """Two, then four, then one. Of four, two have no row of LoRA's A, and two evaluate a row more than the others."""
    train(tmp_path, 2, LORA, dies_after=7)
    train(tmp_path, 4, LORA, dies_after=13)
    resumed = train(tmp_path, 1, LORA)[LORA]
    assert len(resumed["losses"]) == STEPS + EVALUATIONS
    assert resumed["losses"] == pytest.approx(sharded[LORA]["losses"], abs=1e-6)
