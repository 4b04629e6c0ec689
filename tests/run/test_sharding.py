"""Sharded training learns what the replicated one does, with a part of the model in each process.

Real processes with gloo on the CPU; nothing here has run on a GPU.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from structure import ROOT

from llmcore.base.parallel import RUN_ID

# one training of 20 steps, four micro-batches each; the first process prints its history and the bytes it held
TRAINING = """
import hashlib, json, os, signal, sys
from pathlib import Path
from llmcore.base.numerics import settle_numerics
settle_numerics("native", "fp32", "cpu")
import torch
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
import tiny
from test_resume import EVERY_STEP
from llmcore.base import parallel
from llmcore.train.blocks import trained_model
from llmcore.train.compute import Compute
from llmcore.train.history import History
from llmcore.train.loop import fit
from llmcore.train.sharded_checkpoint import ShardedCheckpointer

made, optimizer, precision, sharded, folder, dies_after = sys.argv[1:]
model, task = getattr(tiny, made)()
task.loader.micro_batch_size, task.loader.n_micro_batches = 1, 4
compute = Compute(torch.device("cpu"), precision, is_sharded=sharded == "shard" and parallel.n_processes() > 1)
held = {}

class Checkpointer(ShardedCheckpointer):
    def after_step(self, state, *, last):
        super().after_step(state, last=last)
        held["bytes"] = sum(
            (tensor.to_local() if hasattr(tensor, "to_local") else tensor).nbytes
            for name, tensor in state.tensors().items() if name.startswith(("weights/", "optimizer/"))
        )
        if state.step == int(dies_after) and parallel.rank() == parallel.n_processes() - 1:
            os.kill(os.getpid(), signal.SIGKILL)

history = History()
params = tiny.training(optimizer=optimizer, eval_interval_steps=5, keep_checkpoint="best", lr=3e-3, min_lr=3e-3,
                       epochs=20 / task.loader.steps_per_epoch)
with trained_model(model, compute) as trained:
    fit(trained, task, params, seed=1, compute=compute, callback=history,
        checkpointer=Checkpointer(Path(folder), history, EVERY_STEP))
if parallel.is_first():
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values()))
    print(json.dumps({"steps": history.steps, "evaluations": history.evaluations, "bytes": held["bytes"],
                      "weights": digest.hexdigest(), "norm": float(sum(p.square().sum() for p in model.parameters()))}))
"""


def train(
    folder: Path,
    made: str,
    processes: int,
    *,
    optimizer: str = "adamw",
    precision: str = "fp32",
    how: str = "shard",
    dies_after: int = 0,
) -> dict[str, Any]:
    """Return what the training printed; nothing if it died."""
    script = folder / "training.py"
    script.write_text(TRAINING)
    torchrun = f"-m torch.distributed.run --nproc-per-node {processes} --rdzv-backend c10d --rdzv-endpoint localhost:0"
    launcher = [*torchrun.split(), "--local-addr", "localhost", "--rdzv-id", f"{RUN_ID}1"] if processes > 1 else []
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests/train")))
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, *launcher, str(script), made, optimizer, precision, how, str(checkpoints), str(dies_after)],
        env=os.environ | {"PYTHONPATH": paths, "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert bool(done.returncode) == bool(dies_after), done.stderr
    return json.loads(done.stdout) if done.stdout else {}


def losses(found: dict[str, Any]) -> list[float]:
    return [row["train/loss"] for row in found["steps"]] + [row["val/loss"] for row in found["evaluations"]]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(tmp_path_factory.mktemp("two"), "pretraining", 2)


@pytest.mark.parametrize(
    ("made", "optimizer", "precision", "near"),
    [
        ("pretraining", "adamw", "fp32", 1e-6),
        ("llama_pretraining", "muon", "fp32", 1e-6),
        ("lora_classification", "adamw", "fp32", 1e-6),
        ("instruction_tuning", "muon", "bf16", 2e-3),  # norms are rounded to bf16 too
    ],
)
def test_losses_are_those_of_the_replicated_training(
    tmp_path: Path, made: str, optimizer: str, precision: str, near: float
) -> None:
    settings = {"optimizer": optimizer, "precision": precision}
    shards = train(tmp_path, made, 2, **settings)
    (tmp_path / "alone").mkdir()
    alone = train(tmp_path / "alone", made, 1, how="replicate", **settings)
    assert len(shards["steps"]) == 20
    assert losses(shards) == pytest.approx(losses(alone), abs=near)
    assert shards["norm"] == pytest.approx(alone["norm"], rel=1e3 * near)
