"""Differences between two outputs are described by tensors, numbers or bytes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from llmcore.dvc.differences import byte_difference, folder_differences, number_differences, tensor_difference


def test_tensors_are_compared_by_their_largest_difference() -> None:
    first = {"a": torch.zeros(3), "b": torch.ones(2), "empty": torch.zeros(0)}
    second = first | {"b": torch.tensor([1.0, 1.25])}
    assert tensor_difference(save(first), save(second)) == "tensors differ by 0.25 at most (in b)"
    assert tensor_difference(save(first), save({"a": torch.zeros(3)})) == "names or shapes of tensors differ"


def test_numbers_are_compared_one_by_one() -> None:
    before = {"loss": 0.5, "steps": 3, "name": "a", "same": 1, "inner": {"x": 1}}
    after = {"loss": 0.75, "steps": 3, "name": "b", "same": 1, "inner": {"x": 0}, "new": 1}
    assert number_differences(before, after) == [
        "inner.x 1 -> 0 (-1)",
        "loss 0.5 -> 0.75 (+0.25)",
        "name a -> b",
        "new None -> 1",
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (b"abc", b"abd", "first differing byte 2"),
        (b"abc", b"ab", "first differing byte 2, 3 bytes -> 2 bytes"),
        (b"", b"a", "first differing byte 0, 0 bytes -> 1 bytes"),
    ],
)
def test_other_files_are_compared_by_bytes(before: bytes, after: bytes, expected: str) -> None:
    assert byte_difference(before, after) == expected


def test_folders_are_compared_file_by_file(tmp_path: Path) -> None:
    for side, texts in {
        "old": {"same": "1", "gone": "", "x.json": '{"a": 1}', "y.json": "{", "w.safetensors": "no tensors"},
        "new": {"same": "1", "more": "", "x.json": '{"a": 3}', "y.json": "[", "w.safetensors": "no tensor"},
    }.items():
        for name, text in texts.items():
            path = tmp_path / side / "deep" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    assert folder_differences(tmp_path / "old", tmp_path / "new") == [
        "deep/gone: missing in the rebuilt output",
        "deep/more: only in the rebuilt output",
        "deep/w.safetensors: first differing byte 9, 10 bytes -> 9 bytes",
        "deep/x.json: a 1 -> 3 (+2)",
        "deep/y.json: first differing byte 0",
    ]
    assert folder_differences(tmp_path / "old", tmp_path / "old") == []
    assert folder_differences(tmp_path / "old/deep/x.json", tmp_path / "new/deep/x.json") == ["x.json: a 1 -> 3 (+2)"]
