"""How many processes compute a stage."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.base.files import read_yaml
from llmcore.config.params import Params
from llmcore.config.read import check_params
from llmcore.run import launch

GIB = 1 << 30


def processes(
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    folder: Path,
    *,
    wanted: Any = "auto",
    cores: int = 8,
    free_bytes: int = 64 * GIB,
    micro_batches: int = 4,
    n_machines: int = 1,
) -> int:
    values = read_yaml(ROOT / "params.yaml")
    values["runtime"]["processes"] = wanted
    for section in launch.TRAININGS.values():
        values[section] |= {"batch_size": 8 * micro_batches, "micro_batch_size": 8}
    params: Params = check_params(values)
    monkeypatch.setattr(launch, "read_params", lambda: params)
    monkeypatch.setattr(launch, "usable_cores", lambda: cores)
    monkeypatch.setattr(launch, "is_portable", lambda: True)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free_bytes))
    return launch.processes_for(stage, [str(folder)], n_machines)


def model_of(folder: Path, parameters: int) -> Path:
    with open(folder / "model.safetensors", "wb") as file:
        file.truncate(4 * parameters)
    return folder


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4)])
def test_auto_takes_the_cores_at_hand_as_a_power_of_two(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int, expected: int
) -> None:
    for stage in launch.TRAININGS:
        assert processes(monkeypatch, stage, tmp_path, cores=cores) == expected


@pytest.mark.parametrize(("micro_batches", "expected"), [(1, 1), (2, 2), (8, 8)])
def test_a_training_has_no_more_processes_than_micro_batches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, micro_batches: int, expected: int
) -> None:
    for wanted in ("auto", 1000):
        found = processes(monkeypatch, "pretrain", tmp_path, wanted=wanted, micro_batches=micro_batches)
        assert found == expected


@pytest.mark.parametrize(("micro_batches", "expected"), [(2, 1), (4, 2), (32, 8)])
def test_machines_share_the_micro_batches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, micro_batches: int, expected: int
) -> None:
    assert processes(monkeypatch, "pretrain", tmp_path, micro_batches=micro_batches, n_machines=2) == expected


def test_each_machine_needs_a_micro_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"instruct\.batch_size: must be at least 4 times micro_batch_size"):
        processes(monkeypatch, "finetune_instruct", tmp_path, micro_batches=2, n_machines=4)


@pytest.mark.parametrize(("wanted", "expected"), [(1, 1), (3, 2), (4, 4)])
def test_a_number_is_taken_whatever_the_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: int, expected: int
) -> None:
    assert processes(monkeypatch, "evaluate_instruct", tmp_path, wanted=wanted, cores=1) == expected


def test_auto_takes_what_the_free_memory_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model of 124M parameters takes about 4 GiB in each process."""
    model_of(tmp_path, 124_439_808)
    assert processes(monkeypatch, "finetune_instruct", tmp_path, free_bytes=10 * GIB) == 2
    assert processes(monkeypatch, "finetune_instruct", tmp_path, free_bytes=2 * GIB) == 1


def test_a_small_model_is_evaluated_by_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert processes(monkeypatch, "evaluate_classifier", model_of(tmp_path, 1_000_000)) == 1
    assert processes(monkeypatch, "evaluate_classifier", model_of(tmp_path, 100_000_000)) == 8


@pytest.mark.parametrize("stage", ["download", "tokenize_text", "sample", "prepare_spam", "report", "track"])
def test_stages_without_a_model_have_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: str) -> None:
    assert processes(monkeypatch, stage, tmp_path, wanted=4) == 1


@pytest.mark.parametrize(("parameters", "expected"), [(1_000_000, None), (124_439_808, "1")])
def test_large_models_get_large_pages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parameters: int, expected: str | None
) -> None:
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.chdir(ROOT)
    launch.take_large_pages("finetune_instruct", [str(model_of(tmp_path, parameters))])
    assert os.environ.get("THP_MEM_ALLOC_ENABLE") == expected


def test_processes_that_would_share_a_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    params = SimpleNamespace(compute=SimpleNamespace(device="cuda"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    launch._check_gpus(params, 2)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"runtime.processes: must be at most the 2 GPUs of this machine, got 4"):
        launch._check_gpus(params, 4)  # type: ignore[arg-type]
