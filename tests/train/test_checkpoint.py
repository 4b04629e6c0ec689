"""Checkpoints on disk: whole or not at all, and damage is found."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llmcore.train.checkpoint import (
    FACTS,
    MARKER,
    TENSORS,
    Checkpoint,
    checkpoint_folders,
    read_checkpoint,
    write_checkpoint,
)


def example(step: int = 7) -> Checkpoint:
    tensors = {"weights/a": torch.tensor([1.0, -0.0, 1e-45]), "random/cpu": torch.get_rng_state()}
    return Checkpoint(step, tensors, {"metrics": {"z": 0.1, "a": 1 / 3}, "history": {}})


def test_a_checkpoint_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, example(), kept=1)
    found = read_checkpoint(tmp_path / "step-000007")
    assert found.step == 7
    assert found.facts == example().facts
    assert list(found.facts["metrics"]) == ["z", "a"]  # columns of a CSV come in this order
    assert {name: tensor.numpy().tobytes() for name, tensor in found.tensors.items()} == {
        name: tensor.numpy().tobytes() for name, tensor in example().tensors.items()
    }


def test_the_newest_checkpoints_are_kept_with_steps_sorted_as_numbers(tmp_path: Path) -> None:
    for step in (999_998, 999_999, 1_000_000):
        write_checkpoint(tmp_path, example(step), kept=2)
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step-999999", "step-1000000"]


def test_saving_a_step_again_replaces_its_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, example(), kept=2)
    (tmp_path / "step-000007" / TENSORS).write_bytes(b"damaged")
    write_checkpoint(tmp_path, example(), kept=2)
    assert read_checkpoint(tmp_path / "step-000007").step == 7


def test_no_file_is_a_pickle(tmp_path: Path) -> None:
    """Reading a pickle can run any code, and torch's own format holds one."""
    write_checkpoint(tmp_path, example(), kept=1)
    files = sorted(path.name for path in (tmp_path / "step-000007").iterdir())
    assert files == sorted([TENSORS, FACTS, MARKER])
    assert not (tmp_path / "step-000007" / TENSORS).read_bytes().startswith((b"PK", b"\x80"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def into_a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("x")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda path: (path / TENSORS).write_bytes((path / TENSORS).read_bytes()[:-9]), "differs from its"),
    "emptied": (lambda path: (path / TENSORS).write_bytes(b""), "differs from its hash"),
    "one bit of a tensor": (lambda path: flip(path / TENSORS), "state.safetensors differs from its hash"),
    "one bit of a fact": (lambda path: flip(path / FACTS), "state.json differs from its hash"),
    "tensors deleted": (lambda path: (path / TENSORS).unlink(), "state.safetensors is missing"),
    "marker deleted": (lambda path: (path / MARKER).unlink(), "complete.json is missing"),
    "marker emptied": (lambda path: (path / MARKER).write_bytes(b""), "Expecting value"),
    "marker of another kind": (lambda path: (path / MARKER).write_text("[]"), "differs from its hash"),
    "a file in its place": (into_a_file, "Not a directory"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_named(tmp_path: Path, damage: str) -> None:
    write_checkpoint(tmp_path, example(), kept=1)
    inflict, reason = DAMAGE[damage]
    inflict(tmp_path / "step-000007")
    with pytest.raises(ValueError, match=reason):
        read_checkpoint(tmp_path / "step-000007")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, example(1), kept=1)
    with pytest.raises(TypeError, match="JSON"):
        write_checkpoint(tmp_path, Checkpoint(2, {}, {"no JSON": object()}), kept=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
