"""Results are right also where OpenMP gives fewer threads than torch asks for."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structure import ROOT
from tiny import classifier_of

from llmcore.base.process import FEWER_THREADS, ask_for_fewer_threads
from llmcore.model.folder import save_classifier
from llmcore.model.gpt2 import GPT2Config
from llmcore.tokenizer.bpe import BytePairTokenizer

SETTINGS = [
    {},
    {"OMP_DYNAMIC": "true"},
    {"OMP_THREAD_LIMIT": "1"},
    {"OMP_MAX_ACTIVE_LEVELS": "0"},
    {"OMP_NUM_THREADS": "4,2", "OMP_THREAD_LIMIT": "2"},
    {"OMP_DYNAMIC": "TRUE", "OMP_NUM_THREADS": "8", "MKL_NUM_THREADS": "8"},
]
PRODUCTS = """
import sys, torch
import torch.nn.functional as F
from llmcore.config.params import ComputeParams
from llmcore.model.layers import Linear
from llmcore.model.packed import PackedLinear
from llmcore.train.compute import setup_compute

def linear_is_right(rows, columns):
    layer, x = Linear(192, columns), torch.randn(rows, 192)
    torch.nn.init.normal_(layer.weight), torch.nn.init.normal_(layer.bias)
    waste = [torch.full((rows, columns), torch.nan) for _ in range(9)]  # what unwritten memory shows
    del waste
    with torch.no_grad():
        found = [layer(x), PackedLinear(layer, torch.float32)(x)]
    expected = F.linear(x, layer.weight, layer.bias)
    return all(torch.allclose(each, expected, atol=1e-3) for each in found)

def bf16_is_right():
    x, y = torch.randn(96, 192), torch.randn(192, 288)
    return torch.allclose((x.bfloat16() @ y.bfloat16()).float(), x @ y, atol=1)

torch.manual_seed(0)
torch.set_num_threads(3)
right = [linear_is_right(*shape) for shape in ((1, 192), (5, 32), (64, 576), (1, 5000))]
setup_compute(ComputeParams(device="cpu", precision="fp32", numerics="native", threads=4, determinism="off",
                            parallel="replicate", activation_checkpointing=False, compile=False))
print(*right, bf16_is_right(), linear_is_right(64, 576))
"""
CHANGED_LATER = """
import ctypes, torch
from llmcore.base.openmp import gives_threads
torch.set_num_threads(2)
openmp = ctypes.CDLL(None)
found = [gives_threads()]
for function, values in (("omp_set_dynamic", (1, 0)), ("omp_set_max_active_levels", (0, 1))):
    for value in values:
        getattr(openmp, function)(value)
        found.append(gives_threads())
print(*found)
"""


def run(arguments: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python in a fresh process, with the given variables of OpenMP alone."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "KMP_", "MKL_"))}
    environment = inherited | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("variables", SETTINGS, ids=str)
def test_products_are_right_also_where_torch_was_loaded_before_the_settings_could_be_changed(
    variables: dict[str, str],
) -> None:
    done = run(["-c", PRODUCTS], variables)
    assert done.stdout.split() == ["True"] * 6
    shrinks = bool(variables)
    assert ("OpenMP gives fewer than the 3 threads" in done.stderr) == shrinks


@pytest.fixture(scope="module")
def classifier(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: BytePairTokenizer, randomised: Callable[..., Any]
) -> Path:
    """A model folder wide enough for its matmuls to be divided among threads."""
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        context_length=24,
        n_layer=2,
        n_head=2,
        n_embd=192,
        dropout=0.0,
        qkv_bias=True,
        tied_head=True,
    )
    model = randomised(classifier_of(config))
    folder = tmp_path_factory.mktemp("classifier")
    save_classifier(folder, model, model.state_dict(), tokenizer=tokenizer, origin={})
    return folder


def test_classify_prints_the_probabilities_of_one_thread(classifier: Path) -> None:
    command = ["-m", "llmcore.cli", "classify", "--model", str(classifier), "Call now!", "Anna had a red ball."]
    expected = run(command, {"OMP_NUM_THREADS": "1"}).stdout
    assert len(expected.splitlines()) == 2
    for variables in SETTINGS:
        done = run(command, variables)
        assert (done.stdout, done.stderr) == (expected, ""), variables


@pytest.mark.skipif(sys.platform != "linux", reason="asks OpenMP's library, which is in reach on Linux")
def test_a_later_change_of_openmps_settings_is_seen() -> None:
    assert run(["-c", CHANGED_LATER], {}).stdout.split() == ["True", "False", "True", "False", "True"]


@pytest.mark.parametrize("ending", ["", "_ALL", "_DEV"])
@pytest.mark.parametrize("name", FEWER_THREADS)
def test_no_variable_remains_that_gives_fewer_threads_than_asked_for(name: str, ending: str) -> None:
    for value in ("0", "1", "3", " 2 ", "true", "x", "-1", ""):
        environment = {name + ending: value, "PATH": "/bin"}
        ask_for_fewer_threads(environment)
        assert environment.keys() <= {"PATH", "OMP_NUM_THREADS"}
        assert int(environment.get("OMP_NUM_THREADS", "1")) >= 1


@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"OMP_THREAD_LIMIT": "1"}, "1"),
        ({"OMP_THREAD_LIMIT": "2", "OMP_NUM_THREADS": "4,2"}, "2"),
        ({"OMP_THREAD_LIMIT": "8", "OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "9"}, "4"),
        ({"OMP_MAX_ACTIVE_LEVELS": "0", "OMP_NUM_THREADS": "4"}, "1"),
        ({"OMP_MAX_ACTIVE_LEVELS": "1", "OMP_NUM_THREADS": "4"}, "4"),
        ({"OMP_DYNAMIC": "true", "OMP_NUM_THREADS": "4"}, "4"),
        ({"OMP_NUM_THREADS": "4,2"}, "4,2"),
        ({}, None),
    ],
    ids=str,
)
def test_a_limit_becomes_the_number_of_threads_to_ask_for(variables: dict[str, str], threads: str | None) -> None:
    environment = dict(variables)
    ask_for_fewer_threads(environment)
    assert environment.get("OMP_NUM_THREADS") == threads
    assert environment.get("MKL_NUM_THREADS") is None
