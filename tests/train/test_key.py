"""The key of a training: what it covers, and how differences are named."""

from pathlib import Path

import pytest
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.dvc.files import code_hashes
from llmcore.train.key import Parts, differences, key_of

PARTS: Parts = {
    "params": {"pretrain.lr": 0.004, "seed": 1},
    "inputs": {"tokens": "ab"},
    "code": {"llmcore/train/loop.py": "12"},
    "machine": {"torch": "2.13.0"},
}


@pytest.mark.parametrize(
    ("kind", "name", "value", "difference"),
    [
        ("params", "pretrain.lr", 0.001, "pretrain.lr 0.004 -> 0.001"),
        ("params", "pretrain.new", 1, "pretrain.new none -> 1"),
        ("inputs", "tokens", "cd", "input tokens differs"),
        ("code", "llmcore/train/loop.py", "34", "llmcore/train/loop.py differs"),
        ("machine", "torch", "2.14.0", "torch 2.13.0 -> 2.14.0"),
    ],
)
def test_every_part_changes_the_key_and_is_named(kind: str, name: str, value: object, difference: str) -> None:
    other: Parts = PARTS | {kind: PARTS[kind] | {name: value}}
    assert key_of(other) != key_of(PARTS)
    assert differences(PARTS, other) == [difference]


def test_the_order_of_the_parts_does_not_change_the_key() -> None:
    turned = {kind: dict(reversed(values.items())) for kind, values in reversed(PARTS.items())}
    assert key_of(turned) == key_of(PARTS)
    assert differences(turned, PARTS) == []


def test_the_code_is_that_named_in_dvc_yaml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    found = code_hashes("pretrain")
    assert {"llmcore/train/loop.py", "llmcore/model/gpt2.py", "stages/pretrain.py"} <= found.keys()
    assert "data/tokens" not in found
    assert "llmcore/tracking/tracker.py" not in found
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^dvc.yaml: no such file"):
        code_hashes("pretrain")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(UserError, match="must have the deps of stage pretrain"):
        code_hashes("pretrain")
