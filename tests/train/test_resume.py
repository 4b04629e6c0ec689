"""A killed and resumed training ends as one that was not killed: weights, optimizer and history, bit for bit."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CPU, EVERY_STEP, equal_bits, instruction_tuning, lora_classification, pretraining, training, weights
from torch import nn

from llmcore.config.params import RuntimeParams, TrainingParams
from llmcore.train.checkpoint import TENSORS, Checkpoint, checkpoint_folders
from llmcore.train.compute import Compute
from llmcore.train.history import History
from llmcore.train.loop import fit, total_steps
from llmcore.train.resume import MAX_WRITE_SHARE, DiskCheckpointer
from llmcore.train.state import State

SECTION = training(epochs=2.0, eval_interval_steps=3, lr=1e-2, min_lr=1e-3, warmup_steps=2)


class Killed(BaseException):
    """Stands for kill -9: no code of the loop runs after it."""


class EveryStep(DiskCheckpointer):
    """Waits for each checkpoint, dies after step `dies_after`, and keeps a copy of the last state."""

    dies_after: int | None = None
    tensors: dict[str, torch.Tensor]

    def after_step(self, state: State, *, last: bool) -> None:
        super().after_step(state, last=last)
        self.wait()
        self.tensors = {name: tensor.clone() for name, tensor in state.tensors().items()}
        if state.step == self.dies_after:
            raise Killed


@pytest.fixture(autouse=True)
def _unlimited_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save at every step, however long writing takes."""
    monkeypatch.setattr("llmcore.train.resume.MAX_WRITE_SHARE", 1e9)


TASKS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "pretraining": pretraining,
    "LoRA classification": lora_classification,
    "instruction tuning": instruction_tuning,
}

Result = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Any, dict[str, float]]


def run(
    folder: Path,
    make: Callable[[], tuple[Any, Any]] = pretraining,
    *,
    precision: str = "fp32",
    dies_after: int | None = None,
    runtime: RuntimeParams = EVERY_STEP,
    section: TrainingParams = SECTION,
) -> Result:
    """Train as in a fresh process; return weights, saved state, history and last evaluation."""
    folder.mkdir(exist_ok=True)
    torch.rand(5)  # random numbers that another process would not have drawn
    model, task = make()
    history = History()
    checkpointer = EveryStep(folder, history, runtime)
    checkpointer.dies_after = dies_after
    compute = Compute(CPU.device, precision)
    last = fit(model, task, section, seed=1, compute=compute, callback=history, checkpointer=checkpointer).metrics
    return weights(model), checkpointer.tensors, history.dump(), last


def killed(folder: Path, after: int, **arguments: Any) -> None:
    with pytest.raises(Killed):
        run(folder, dies_after=after, **arguments)


def same(first: Result, second: Result) -> bool:
    return equal_bits(first[0], second[0]) and equal_bits(first[1], second[1]) and first[2:] == second[2:]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", TASKS)
def test_a_training_killed_four_times_equals_one_that_was_not(tmp_path: Path, name: str, precision: str) -> None:
    """With dropout and accumulation; the kills come before, on and after a step that is evaluated."""
    arguments: dict[str, Any] = {"make": TASKS[name], "precision": precision}
    steps = total_steps(TASKS[name]()[1], SECTION.epochs)
    whole = run(tmp_path / "whole", **arguments)
    for after in (2, 3, 4, steps - 1):
        killed(tmp_path / "parts", after, **arguments)
    assert same(run(tmp_path / "parts", **arguments), whole)
    assert len(whole[2][0]) == steps


@pytest.mark.parametrize("name", TASKS)
def test_a_killed_training_with_muon_equals_one_that_was_not(tmp_path: Path, name: str) -> None:
    arguments: dict[str, Any] = {"make": TASKS[name], "section": SECTION.model_copy(update={"optimizer": "muon"})}
    whole = run(tmp_path / "whole", **arguments)
    assert any(name.startswith("optimizer/momentum/transformer.h.0.") for name in whole[1])
    killed(tmp_path / "parts", 4, **arguments)
    assert same(run(tmp_path / "parts", **arguments), whole)


@pytest.mark.parametrize("name", ["pretraining", "LoRA classification"])
def test_early_stopping_and_best_weights_are_the_same_after_any_kill(tmp_path: Path, name: str) -> None:
    """The learning rate is so high that the loss rises; the kills come before, on and after the best evaluation."""
    changes = {
        "lr": 0.5,
        "min_lr": 0.5,
        "eval_interval_steps": 2,
        "early_stopping_patience": 2,
        "keep_checkpoint": "best",
    }
    arguments: dict[str, Any] = {"make": TASKS[name], "section": SECTION.model_copy(update=changes)}
    whole = run(tmp_path / "whole", **arguments)
    steps = len(whole[2][0])
    assert steps < total_steps(TASKS[name]()[1], SECTION.epochs)
    for after in range(1, steps):
        killed(tmp_path / "parts", after, **arguments)
    assert same(run(tmp_path / "parts", **arguments), whole)
    model = TASKS[name]()[0]
    model.load_state_dict(whole[0])
    losses = [row["val/loss"] for row in whole[2][1]["evaluations"]]
    assert TASKS[name]()[1].evaluate(model.eval())["loss"] == whole[3]["val/loss"] == min(losses) < losses[-1]


def test_a_training_without_checkpoints_gives_the_same_weights(tmp_path: Path) -> None:
    model, task = pretraining()
    fit(model, task, SECTION, seed=1, compute=CPU, callback=History())
    assert equal_bits(model.state_dict(), run(tmp_path / "saved")[0])


def test_a_finished_training_is_neither_trained_nor_evaluated_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole")
    model, task = pretraining()

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(task, "evaluate", fail)
    monkeypatch.setattr(task.loader, "micro_batches", fail)
    history = History()
    checkpointer = DiskCheckpointer(tmp_path / "whole", history, EVERY_STEP)
    last = fit(model, task, SECTION, seed=1, compute=CPU, callback=history, checkpointer=checkpointer)
    assert (history.dump(), last.metrics) == whole[2:]
    assert not model.training


def test_frozen_weights_are_not_saved(tmp_path: Path) -> None:
    model, _ = lora_classification()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    saved = run(tmp_path / "lora", lora_classification)[1]
    assert frozen
    assert not [name for name in saved if name.removeprefix("weights/") in frozen]
    assert {name.partition("/")[0] for name in saved} == {"weights", "optimizer", "random"}


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_used(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    whole = run(tmp_path / "whole")
    killed(tmp_path / "parts", 4)
    newest = checkpoint_folders(tmp_path / "parts")[-1]
    (newest / TENSORS).write_bytes((newest / TENSORS).read_bytes()[:100])
    assert same(run(tmp_path / "parts"), whole)
    lines = capfd.readouterr().err.splitlines()
    assert lines == [f"checkpoint {newest}: {TENSORS} differs from its hash; the one before is used"]


def test_a_training_whose_checkpoints_are_all_damaged_starts_from_the_beginning(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    killed(tmp_path / "parts", 4)
    for path in checkpoint_folders(tmp_path / "parts"):
        next(path.iterdir()).unlink()
    assert same(run(tmp_path / "parts"), whole)


def test_the_state_of_torchs_random_generator_is_restored(tmp_path: Path) -> None:
    """Each consumer seeds its own draws, so no result depends on this; it is saved nevertheless."""
    killed(tmp_path / "parts", 4)
    expected = torch.rand(3)
    torch.manual_seed(99)
    model, _ = pretraining()
    optimizer = torch.optim.AdamW(model.parameters())
    DiskCheckpointer(tmp_path / "parts", History(), EVERY_STEP).restore(State(model, optimizer))
    assert torch.equal(torch.rand(3), expected)


# ---- when checkpoints are written


def saved_steps(monkeypatch: pytest.MonkeyPatch, runtime: RuntimeParams, write_seconds: float) -> list[int]:
    """Let 400 steps of an eighth of a second pass on a fake clock; return the steps that were saved.

    Writing takes `write_seconds` of a core's time in the background.
    """
    clock = Clock()
    saved = []

    def write(folder: Path, checkpoint: Checkpoint, *, kept: int) -> None:
        saved.append(checkpoint.step)
        clock.cpu += write_seconds

    monkeypatch.setattr("llmcore.train.resume.time", clock)
    monkeypatch.setattr("llmcore.train.resume.write_checkpoint", write)
    checkpointer = DiskCheckpointer(Path(), History(), runtime)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    for step in range(1, 401):
        clock.wall += 0.125
        checkpointer.after_step(State(model, optimizer, step), last=step == 400)
        checkpointer.wait()
    return saved


class Clock:
    """Stands in for the module `time`."""

    wall = 0.0
    cpu = 0.0

    def monotonic(self) -> float:
        return self.wall

    def thread_time(self) -> float:
        return self.cpu


@pytest.mark.parametrize(
    ("steps", "seconds", "write_seconds", "expected"),
    [
        (100, 1e9, 0.001, [100, 200, 300, 400]),  # by steps
        (10**9, 15.0, 0.001, [120, 240, 360, 400]),  # by seconds
        (1, 1e9, 0.25, [1, *range(81, 400, 80), 400]),  # at most MAX_WRITE_SHARE of the time: every 10 seconds
    ],
)
def test_checkpoints_come_by_steps_or_seconds_within_their_share_of_time_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, steps: int, seconds: float, write_seconds: float, expected: list[int]
) -> None:
    monkeypatch.setattr("llmcore.train.resume.MAX_WRITE_SHARE", MAX_WRITE_SHARE)
    changes = {"checkpoint_interval_steps": steps, "checkpoint_interval_seconds": seconds}
    assert saved_steps(monkeypatch, EVERY_STEP.model_copy(update=changes), write_seconds) == expected


# ---- disks that cannot be written


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB, which holds no checkpoint."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_reported_once_and_the_training_continues(
    tmp_path: Path, small_disk: Path, capfd: pytest.CaptureFixture
) -> None:
    assert same(run(small_disk), run(tmp_path / "whole"))
    (line,) = capfd.readouterr().err.splitlines()
    assert "cannot be written (No space left on device" in line
    assert "training continues" in line
    assert list(small_disk.iterdir()) == []


def test_a_missing_folder_is_reported_once_and_the_training_continues(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "gone").write_text("a file where the folder was")
    model, task = pretraining()
    checkpointer = DiskCheckpointer(tmp_path / "gone", History(), EVERY_STEP)
    fit(model, task, SECTION, seed=1, compute=CPU, callback=History(), checkpointer=checkpointer)
    assert len(capfd.readouterr().err.splitlines()) == 1
