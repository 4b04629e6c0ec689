"""The process is set up as `compute` says."""

import os
from collections.abc import Iterator

import pytest
import torch
from tiny import compute_params

from llmcore.base.errors import UserError
from llmcore.base.numerics import has_avx2
from llmcore.train.compute import setup_compute


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_missing_device_is_refused(device: str) -> None:
    if {"cuda": torch.cuda, "mps": torch.backends.mps}[device].is_available():
        pytest.skip("this machine has it")
    rule = f"compute.device must be a device of this machine, got '{device}'; set it to cpu"
    with pytest.raises(UserError, match=f"^{rule}$"):
        setup_compute(compute_params(device=device))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_set_where_numerics_are_native(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)  # one of the settings of portable numerics
    setup_compute(compute_params(threads=threads))
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(not has_avx2(), reason="portable numerics are for x86 CPUs with AVX2")
def test_portable_numerics_have_one_thread() -> None:
    setup_compute(compute_params(threads=2))
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("determinism", "on", "warns"), [("strict", True, False), ("warn", True, True)])
def test_determinism_is_set(determinism: str, on: bool, warns: bool) -> None:
    setup_compute(compute_params(determinism=determinism))
    assert torch.are_deterministic_algorithms_enabled() is on
    assert torch.is_deterministic_algorithms_warn_only_enabled() is warns
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_determinism_off_leaves_torch_as_it_is() -> None:
    setup_compute(compute_params())
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_matmuls_are_computed_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    with setup_compute(compute_params(precision=precision)).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize(("capability", "taken"), [("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")])
def test_auto_chooses_bf16_where_the_processor_has_it_and_reports_the_choice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, capability: str, taken: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True, "sse": True})
    assert setup_compute(compute_params(precision="auto")).precision == taken
    assert capsys.readouterr().err == f"compute.precision auto: {taken}\n"
