"""Portable numerics give the same bytes whatever the environment, the CPU's vendor or the number of cores, and leave
bf16 alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from structure import ROOT

from llmcore.base.numerics import PORTABLE, has_avx2, is_portable

CPUINFO = Path("/proc/cpuinfo")
CPU_FLAGS = CPUINFO.read_text(encoding="utf-8").split() if CPUINFO.is_file() else []
INTEL = "int mkl_serv_intel_cpu_true(void) { return 1; }\nint mkl_serv_intel_cpu(void) { return 1; }\n"

# twenty steps of each kind, with dropout, and what a short training does not reach: long rows, long texts, a real width
TRAINING = """
import hashlib
from llmcore.base.numerics import settle_numerics
settle_numerics({numerics!r}, "fp32", "cpu")
import torch
torch.set_num_threads(1)
from tiny import CPU, instruction_tuning, llama_pretraining, lora_classification, pretraining, training
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.llama import LlamaConfig
from llmcore.model.rotary import Rotary
from llmcore.model.registry import new_model
from llmcore.train.history import History
from llmcore.train.loop import fit

digest = hashlib.sha256()
for make, optimizer in ((pretraining, "adamw"), (lora_classification, "adamw"), (instruction_tuning, "muon"),
                        (llama_pretraining, "muon")):
    model, task = make()
    history = History()
    fit(model, task, training(optimizer=optimizer), seed=1, compute=CPU, callback=history)
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    digest.update(repr(history.steps + history.evaluations).encode())
shape = dict(vocab_size=1000, context_length=301, n_layer=2, n_head=4, n_embd=128, dropout=0.1, tied_head=True)
llama = dict(n_kv_head=2, head_size=32, intermediate_size=300, norm_eps=1e-5, rotary=Rotary(10_000.0))
for config in (GPT2Config(**shape, qkv_bias=True), LlamaConfig(**shape, **llama)):
    generator = torch.Generator().manual_seed(0)
    model = new_model(config)
    model.initialise(generator)
    for length in (300, 193, 64, 5, 1):
        ids = torch.randint(0, 1000, (2, length + 1), generator=generator)
        model(ids[:, :-1], targets=ids[:, 1:]).backward()
        digest.update(model(ids).detach().softmax(-1).numpy().tobytes())
    for parameter in model.parameters():
        digest.update(parameter.grad.numpy().tobytes())
print(torch.backends.cpu.get_cpu_capability(), digest.hexdigest())
"""


def run(code: str, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run code in a fresh process, behind `command`, without this one's settings and with other variables."""
    inherited = {name: value for name, value in os.environ.items() if name not in PORTABLE}
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.run(
        [*command, sys.executable, "-c", code],
        env=inherited | paths | variables,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def train(*command: str, numerics: str = "portable", **variables: str) -> str:
    """Return torch's CPU capability and the hash of what was computed."""
    done = run(TRAINING.format(numerics=numerics), *command, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def plain() -> str:
    return train()


@pytest.fixture(scope="module")
def intel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that makes MKL believe in an Intel CPU."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux's LD_PRELOAD")
    folder = tmp_path_factory.mktemp("intel")
    (folder / "intel.c").write_text(INTEL)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "intel.so", folder / "intel.c"], check=True)
    return str(folder / "intel.so")


portable = pytest.mark.skipif(not has_avx2(), reason="portable numerics are for x86 CPUs with AVX2")


@portable
def test_wider_instructions_are_not_used_even_if_the_environment_asks_for_them(plain: str) -> None:
    wider = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "ALL", "OPENBLAS_CORETYPE": "SkylakeX"}
    assert train(**wider) == plain
    assert plain.startswith("AVX2 ")


@portable
def test_the_vendor_of_the_cpu_changes_no_byte(plain: str, intel: str) -> None:
    assert train(LD_PRELOAD=intel) == plain


@portable
def test_settings_of_mkl_change_no_byte(plain: str) -> None:
    assert train(MKL_CBWR="COMPATIBLE", MKL_ENABLE_INSTRUCTIONS="SSE4_2") == plain


@portable
def test_the_number_of_threads_asked_for_changes_no_byte(plain: str) -> None:
    assert train(OMP_NUM_THREADS="4", OPENBLAS_NUM_THREADS="3", MKL_NUM_THREADS="2") == plain


@portable
def test_the_size_of_the_cache_changes_no_byte(plain: str) -> None:
    assert train(OPENBLAS_L2_SIZE="2048") == plain


@portable
@pytest.mark.skipif(not shutil.which("taskset"), reason="needs taskset")
def test_one_core_gives_the_same_bytes(plain: str) -> None:
    core = min(os.sched_getaffinity(0))
    assert train("taskset", "--cpu-list", str(core)) == plain


@portable
def test_native_trainings_depend_on_the_vendor(intel: str) -> None:
    """So the tests above can fail."""
    assert train(numerics="native") != train(numerics="native", LD_PRELOAD=intel)


@pytest.mark.skipif("avx512f" not in CPU_FLAGS, reason="needs a CPU whose own instructions are wider")
def test_native_trainings_use_wider_instructions() -> None:
    assert not train(numerics="native").startswith("AVX2 ")


SETTLE = "from llmcore.base.numerics import *; settle_numerics({}); print(is_portable())"


@portable
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("'portable', 'bf16', 'cpu'", "only fp32 is portable, not bf16"),
        ("'portable', 'auto', 'cpu'", "only fp32 is portable, not auto"),
        ("'portable', 'fp32', 'cuda'", "only a CPU is portable, not cuda"),
    ],
)
def test_what_cannot_be_portable_is_native_and_says_so(asked: str, message: str) -> None:
    done = run(SETTLE.format(asked))
    assert done.stdout == "False\n"
    assert done.stderr == f"compute.numerics portable: {message}; results repeat on this type of machine\n"


@portable
def test_native_numerics_leave_the_environment_alone() -> None:
    done = run(SETTLE.format("'native', 'fp32', 'cpu'"), OMP_NUM_THREADS="2")
    assert (done.stdout, done.stderr) == ("False\n", "")


@portable
def test_native_numerics_are_not_portable_because_the_calling_process_was() -> None:
    assert run(SETTLE.format("'native', 'fp32', 'cpu'"), **PORTABLE).stdout == "False\n"


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_settling_after_a_library_has_loaded_is_refused(library: str) -> None:
    done = run(f"import {library}; {SETTLE.format(repr('portable') + ', 1, 2')}")
    assert done.returncode == 1
    assert "AssertionError: the libraries have chosen their kernels already" in done.stderr


def test_importing_the_module_imports_no_library() -> None:
    code = "import sys, llmcore.base.numerics; sys.exit(bool({'torch', 'numpy'} & sys.modules.keys()))"
    assert run(code).returncode == 0


@portable
@pytest.mark.parametrize("name", PORTABLE)
def test_numerics_are_portable_only_with_all_settings(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Under pytest they are set by conftest.py."""
    assert is_portable()
    monkeypatch.setenv(name, "default")
    assert not is_portable()
