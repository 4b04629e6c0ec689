"""Pinned numerics give the same bytes whatever instruction set the environment allows, and leave bf16 alone."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from structure import ROOT

from llmcore.base.numerics import AVX2_CAPS, has_avx2, is_pinned

WIDER = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "ALL"}
CPUINFO = Path("/proc/cpuinfo")
CPU_FLAGS = CPUINFO.read_text(encoding="utf-8").split() if CPUINFO.is_file() else []
TRAINING = """
import hashlib
from llmcore.base.numerics import is_pinned, pin_numerics
pin_numerics({precision!r})
from tiny import CPU, pretraining, training
from llmcore.train.history import History
from llmcore.train.loop import fit
import torch

model, task = pretraining()
history = History()
fit(model, task, training(), seed=1, compute=CPU, callback=history)
with torch.no_grad():  # what wider instructions round differently: long rows in softmax, attention, GELU
    x = torch.randn(64, 1000, generator=torch.Generator().manual_seed(0))
    attended = torch.nn.functional.scaled_dot_product_attention(*[x.view(1, 4, 200, 80)] * 3, is_causal=True)
    digest = hashlib.sha256(x.softmax(-1).numpy().tobytes() + attended.numpy().tobytes())
for tensor in model.state_dict().values():
    digest.update(tensor.numpy().tobytes())
digest.update(repr(history.steps).encode())
print(is_pinned(), torch.backends.cpu.get_cpu_capability(), digest.hexdigest())
"""


def run(code: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process, without this one's caps and with other variables."""
    inherited = {name: value for name, value in os.environ.items() if name not in AVX2_CAPS}
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.run(
        [sys.executable, "-c", code], env=inherited | paths | variables, capture_output=True, text=True, cwd=ROOT
    )


@functools.cache
def train(precision: str, *, wider: bool) -> tuple[str, str, str]:
    """Return whether the numerics are pinned, torch's CPU capability, and the hash of what was computed.

    `wider` is whether the environment allows a wider instruction set explicitly.
    """
    done = run(TRAINING.format(precision=precision), WIDER if wider else {})
    assert done.returncode == 0, done.stderr
    pinned, capability, digest = done.stdout.rsplit(maxsplit=2)
    return pinned, capability, digest


@pytest.mark.skipif(not has_avx2(), reason="caps are for x86 CPUs with AVX2")
def test_pinned_trainings_give_equal_bytes_whatever_the_environment_allows() -> None:
    plain = train("fp32", wider=False)
    wider = train("fp32", wider=True)
    assert plain == wider
    assert plain[:2] == ("True", "AVX2")


@pytest.mark.skipif("avx512f" not in CPU_FLAGS, reason="needs a CPU whose own instructions are wider")
def test_unpinned_trainings_give_other_bytes_on_a_wider_cpu() -> None:
    """So the test above can fail."""
    _, capability, digest = train("bf16", wider=False)
    assert capability != "AVX2"
    assert digest != train("fp32", wider=False)[2]


@pytest.mark.parametrize("precision", ["bf16", "auto", None])
def test_other_precisions_than_fp32_are_not_capped(precision: str | None) -> None:
    code = f"import os; from llmcore.base.numerics import *; pin_numerics({precision!r})"
    assert run(f"{code}; print(is_pinned(), AVX2_CAPS.keys() & os.environ.keys())", {}).stdout == "False set()\n"


def test_pinning_after_torch_is_imported_is_refused() -> None:
    done = run("import torch; from llmcore.base.numerics import pin_numerics; pin_numerics('fp32')", {})
    assert done.returncode == 1
    assert "AssertionError: torch has chosen its kernels already" in done.stderr


def test_importing_the_module_imports_no_torch() -> None:
    assert run("import sys; import llmcore.base.numerics; sys.exit('torch' in sys.modules)", {}).returncode == 0


@pytest.mark.skipif(not has_avx2(), reason="caps are for x86 CPUs with AVX2")
@pytest.mark.parametrize("name", AVX2_CAPS)
def test_numerics_are_pinned_only_with_both_caps(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Under pytest both are set by conftest.py."""
    assert is_pinned()
    monkeypatch.setenv(name, "default")
    assert not is_pinned()
