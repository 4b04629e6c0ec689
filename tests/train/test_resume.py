"""A training that was killed ends as if it had not been: weights, optimizer, history, to the bit."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import CPU, END_OF_TEXT, equal_bits, language_task, tiny_gpt, training
from torch import nn

from llmcore.base.seeds import torch_generator
from llmcore.config.params import RuntimeParams, TrainingParams
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.gpt2 import TENSORS
from llmcore.model.lora import apply_lora, train_only_lora
from llmcore.tasks.classification import ClassificationTask, LabelledText
from llmcore.tasks.instructions import Example, InstructionTask
from llmcore.train.checkpoint import checkpoint_folders
from llmcore.train.compute import Compute
from llmcore.train.history import History
from llmcore.train.loop import fit, total_steps
from llmcore.train.resume import DiskCheckpointer
from llmcore.train.state import State

EVERY_STEP = RuntimeParams(
    progress=False,
    tracking=False,
    checkpoint_interval_steps=1,
    checkpoint_interval_seconds=3600.0,
    checkpoints_kept=3,
)
SECTION = training(epochs=2.0, eval_interval_steps=3, lr=1e-2, min_lr=1e-3, warmup_steps=2)


class Killed(BaseException):
    """As kill -9: nothing of the loop runs after it."""


class Memory(DiskCheckpointer):
    """Saves at every step however long writing takes; dies after step `dies_after`; keeps the last state it saw."""

    dies_after: int | None = None
    tensors: dict[str, torch.Tensor]

    def passed(self, state: State, *, last: bool) -> None:
        self._write_seconds = 0.0
        super().passed(state, last=last)
        self.wait()
        self.tensors = {name: tensor.clone() for name, tensor in state.tensors().items()}
        if state.step == self.dies_after:
            raise Killed


def pretraining() -> tuple[nn.Module, Any]:
    return tiny_gpt(dropout=0.2), language_task(4, 2)


def lora_classification() -> tuple[nn.Module, Any]:
    gpt, draw = tiny_gpt(dropout=0.2), np.random.default_rng(0)
    model = SequenceClassifier(gpt.config, ["ham", "spam"], "last_real", 8)
    model.transformer = gpt.transformer
    model.initialise_head(torch_generator(0, "head"))
    targets = ["attn.c_attn", "mlp.c_fc"]
    generator = torch_generator(0, "lora")
    apply_lora(model, rank=2, alpha=2, scaling="alpha/rank", dropout=0.2, targets=targets, generator=generator)
    train_only_lora(model, also=["score."])
    rows = [LabelledText(draw.integers(0, END_OF_TEXT, draw.integers(1, 8)).tolist(), n % 2) for n in range(20)]
    task = ClassificationTask(
        rows, rows[:6], batch_size=4, micro_batch_size=2, seed=0, pad_id=END_OF_TEXT, pad_to=None, device=CPU.device
    )
    return model, task


def instruction_tuning() -> tuple[nn.Module, Any]:
    draw, rows = np.random.default_rng(0), []
    for _ in range(20):
        ids = draw.integers(0, END_OF_TEXT, draw.integers(3, 10))
        rows.append(Example(ids[:-1], np.where(np.arange(len(ids) - 1) < 1, -100, ids[1:]), len(ids) - 1))
    task = InstructionTask(
        rows, rows[:6], batch_size=4, micro_batch_size=2, seed=0, pad_id=END_OF_TEXT, device=CPU.device
    )
    return tiny_gpt(dropout=0.2), task


TASKS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "pretraining": pretraining,
    "LoRA classification": lora_classification,
    "instruction tuning": instruction_tuning,
}

Result = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Any, dict[str, float]]


def run(
    folder: Path,
    make: Callable[[], tuple[nn.Module, Any]] = pretraining,
    *,
    precision: str = "fp32",
    dies_after: int | None = None,
    runtime: RuntimeParams = EVERY_STEP,
    section: TrainingParams = SECTION,
) -> Result:
    """Train in a fresh process, as far as the loop can tell; return weights, saved state, history, last evaluation."""
    folder.mkdir(exist_ok=True)
    torch.rand(5)  # whatever an earlier process drew
    model, task = make()
    history = History()
    memory = Memory(folder, history, runtime)
    memory.dies_after = dies_after
    compute = Compute(CPU.device, precision)
    last = fit(model, task, section, seed=1, compute=compute, observer=history, memory=memory).metrics
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, memory.tensors, history.dump(), last


def killed(folder: Path, after: int, **arguments: Any) -> None:
    with pytest.raises(Killed):
        run(folder, dies_after=after, **arguments)


def same(first: Result, second: Result) -> bool:
    return equal_bits(first[0], second[0]) and equal_bits(first[1], second[1]) and first[2:] == second[2:]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", TASKS)
def test_steps_at_once_equal_some_resumed_and_the_rest(tmp_path: Path, name: str, precision: str) -> None:
    """With dropout and accumulation; the kills fall on a step that is evaluated, before one and after one."""
    arguments: dict[str, Any] = {"make": TASKS[name], "precision": precision}
    steps = total_steps(TASKS[name]()[1], SECTION.epochs)
    whole = run(tmp_path / "whole", **arguments)
    for after in (2, 3, 4, steps - 1):
        killed(tmp_path / "parts", after, **arguments)
    assert same(run(tmp_path / "parts", **arguments), whole)
    assert len(whole[2][0]) == steps


@pytest.mark.parametrize("name", TASKS)
def test_the_same_holds_with_muon(tmp_path: Path, name: str) -> None:
    arguments: dict[str, Any] = {"make": TASKS[name], "section": SECTION.model_copy(update={"optimizer": "muon"})}
    whole = run(tmp_path / "whole", **arguments)
    assert any(name.startswith("optimizer/momentum/transformer.h.0.") for name in whole[1])
    killed(tmp_path / "parts", 4, **arguments)
    assert same(run(tmp_path / "parts", **arguments), whole)


@pytest.mark.parametrize("name", ["pretraining", "LoRA classification"])
def test_a_training_that_stops_early_with_its_best_weights_does_so_after_any_kill(tmp_path: Path, name: str) -> None:
    """The learning rate is so high that the loss rises; the kills fall before, on and after the best evaluation."""
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
    losses = [row["loss_val"] for row in whole[2][1]["validations"]]
    assert TASKS[name]()[1].evaluate(model.eval())["loss"] == whole[3]["loss"] == min(losses) < losses[-1]


def test_a_training_without_memory_gives_the_same_weights(tmp_path: Path) -> None:
    model, task = pretraining()
    fit(model, task, SECTION, seed=1, compute=CPU, observer=History())
    assert equal_bits(model.state_dict(), run(tmp_path / "saved")[0])


def test_after_the_last_step_nothing_is_trained_or_evaluated_again(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    model, task = pretraining()

    def fail(*_: object) -> None:
        raise AssertionError

    task.evaluate = task.loader.micro_batches = fail
    memory, history = DiskCheckpointer(tmp_path / "whole", found := History(), EVERY_STEP), found
    last = fit(model, task, SECTION, seed=1, compute=CPU, observer=history, memory=memory)
    assert (history.dump(), last.metrics) == whole[2:]
    assert not model.training


def test_frozen_weights_are_not_saved(tmp_path: Path) -> None:
    model, _ = lora_classification()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    saved = run(tmp_path / "lora", lora_classification)[1]
    assert frozen
    assert not [name for name in saved if name.removeprefix("weights/") in frozen]
    assert {name.partition("/")[0] for name in saved} == {"weights", "optimizer", "random"}


def test_a_damaged_checkpoint_is_told_and_the_one_before_used(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    whole = run(tmp_path / "whole")
    killed(tmp_path / "parts", 4)
    newest = checkpoint_folders(tmp_path / "parts")[-1]
    (newest / TENSORS).write_bytes((newest / TENSORS).read_bytes()[:100])
    assert same(run(tmp_path / "parts"), whole)
    lines = capfd.readouterr().err.splitlines()
    assert lines == [f"checkpoint {newest}: {TENSORS} differs from its hash; the one before is used"]


def test_where_all_are_damaged_the_training_begins_anew(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    killed(tmp_path / "parts", 4)
    for path in checkpoint_folders(tmp_path / "parts"):
        next(path.iterdir()).unlink()
    assert same(run(tmp_path / "parts"), whole)


def test_the_random_numbers_of_torch_go_on_where_they_were(tmp_path: Path) -> None:
    """Every owner seeds what it draws, so no result depends on this; it is kept all the same."""
    killed(tmp_path / "parts", 4)
    expected = torch.rand(3)
    torch.manual_seed(99)
    model, _ = pretraining()
    optimizer = torch.optim.AdamW(model.parameters())
    DiskCheckpointer(tmp_path / "parts", History(), EVERY_STEP).restore(State(model, optimizer))
    assert torch.equal(torch.rand(3), expected)


# ---- when


def saved_steps(folder: Path, runtime: RuntimeParams, write_seconds: float, step_seconds: float) -> list[int]:
    """Let 400 steps pass on a clock of our own; return the steps that were saved."""
    clock, saved = [0.0], []

    class Timed(DiskCheckpointer):
        def passed(self, state: State, *, last: bool) -> None:
            before = self._saved_step
            super().passed(state, last=last)
            self.wait()
            if self._saved_step != before:
                saved.append(state.step)
                clock[0] += write_seconds
                self._saved_at, self._write_seconds = clock[0], write_seconds
            clock[0] += step_seconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmcore.train.resume.time.monotonic", lambda: clock[0])
        memory = Timed(folder, History(), runtime)
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters())
        for step in range(1, 401):
            memory.passed(State(model, optimizer, step), last=step == 400)
    return saved


@pytest.mark.parametrize(
    ("steps", "seconds", "write_seconds", "expected"),
    [
        (100, 1e9, 0.001, [100, 200, 300, 400]),  # by steps
        (10**9, 15.0, 0.001, [151, 302, 400]),  # by seconds
        (1, 1e9, 0.2, [1, *range(82, 400, 81), 400]),  # no more often than its share of the time
    ],
)
def test_it_is_saved_by_steps_or_seconds_within_its_share_and_at_the_end(
    tmp_path: Path, steps: int, seconds: float, write_seconds: float, expected: list[int]
) -> None:
    runtime = EVERY_STEP.model_copy(
        update={"checkpoint_interval_steps": steps, "checkpoint_interval_seconds": seconds, "checkpoints_kept": 1}
    )
    saved = saved_steps(tmp_path, runtime, write_seconds, step_seconds=0.1)
    assert len(saved) == len(expected)
    assert np.abs(np.array(saved) - expected).max() <= 2


# ---- disks


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


def test_a_full_disk_is_told_once_and_the_training_goes_on(
    tmp_path: Path, small_disk: Path, capfd: pytest.CaptureFixture
) -> None:
    assert same(run(small_disk), run(tmp_path / "whole"))
    (line,) = capfd.readouterr().err.splitlines()
    assert "cannot be written (No space left on device" in line
    assert "training goes on" in line
    assert list(small_disk.iterdir()) == []


def test_a_folder_that_vanished_is_told_and_the_training_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    (tmp_path / "gone").write_text("a file where the folder was")
    model, task = pretraining()
    memory = DiskCheckpointer(tmp_path / "gone", History(), EVERY_STEP)
    fit(model, task, SECTION, seed=1, compute=CPU, observer=History(), memory=memory)
    assert len(capfd.readouterr().err.splitlines()) == 1
