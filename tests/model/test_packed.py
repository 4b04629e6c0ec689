"""A model prepared for decoding computes what it did, in fp32 exactly up to the order of sums."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from structure import ROOT
from tiny import CONTEXT, VOCAB, generation, llama_config, tiny_gpt
from torch import Tensor, nn

from llmcore.base.errors import UserError
from llmcore.base.matmul import native_bf16
from llmcore.base.numerics import PORTABLE, has_avx2
from llmcore.base.seeds import torch_generator
from llmcore.config.generation import PRECISIONS
from llmcore.generate.decode import decode
from llmcore.model.layers import Linear
from llmcore.model.packed import PackedLinear, prepare_for_decoding
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel

LLAMA = llama_config()
MODELS = {
    "gpt2, tied": lambda: tiny_gpt(dropout=0.1),
    "gpt2, untied": lambda: tiny_gpt(tied_head=False),
    "llama": lambda: new_model(LLAMA),
    "qwen": lambda: new_model(replace(LLAMA, qkv_bias=True, qk_norm=True, tied_head=False, n_kv_head=1, head_size=8)),
}
IDS = torch.arange(2 * CONTEXT).view(2, CONTEXT) % VOCAB


NATIVE_BF16 = """
import torch
from tiny import tiny_gpt
from llmcore.model.packed import prepare_for_decoding
model, ids = tiny_gpt().eval(), torch.arange(24).view(2, 12) % 16
with torch.no_grad():
    model.body.wte.weight.mul_(10)
    exact = model(ids)
    prepare_for_decoding(model, "bf16")
    for text in ids, ids[:1, :1]:
        found = model(text)
        error = (found - exact[: len(text), : text.shape[1]]).norm() / found.norm()
        print(found.dtype, 0 < float(error) < 0.01, torch.equal(found, found.bfloat16().float()))
"""
PORTABLE_FP32 = """
from tiny import tiny_gpt
from llmcore.model.packed import prepare_for_decoding
model = tiny_gpt()
prepare_for_decoding(model, "fp32")
print(type(model.lm_head).__name__)
"""


def printed(code: str, numerics: Mapping[str, str]) -> str:
    """Return what `code` prints in a process with these numerics."""
    environment = {name: value for name, value in os.environ.items() if name not in PORTABLE}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-c", code]
    environment |= {"PYTHONPATH": paths, **numerics}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture(autouse=True)
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """In portable numerics, which the tests have, nothing would be packed."""
    monkeypatch.setattr("llmcore.model.packed.uses_openblas", lambda *_: False)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    """A model of each family with weights large enough to matter, biases and norms too."""
    made: LanguageModel = MODELS[request.param]()
    generator = torch_generator(0, "test")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, 0.3, generator=generator)
    return made.eval()


@torch.no_grad()
def logits_of(model: LanguageModel) -> list[Tensor]:
    """Return the logits of whole texts, and of the same ones read in parts of 5, 1 and 6 tokens."""
    cache = model.new_cache(len(IDS), CONTEXT)
    parts = [model(part, cache=cache) for part in IDS.split([5, 1, CONTEXT - 6], dim=1)]
    return [model(IDS), torch.cat(parts, 1)]


def test_in_fp32_logits_are_the_same(model: LanguageModel) -> None:
    expected = logits_of(model)
    prepare_for_decoding(model, "fp32")
    for found, exact in zip(logits_of(model), expected, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


def test_in_int8_logits_stay_close(model: LanguageModel) -> None:
    expected = logits_of(model)
    prepare_for_decoding(model, "int8")
    for found, exact in zip(logits_of(model), expected, strict=True):
        assert 0 < (found - exact).norm() < 0.03 * exact.norm()


@pytest.mark.skipif(not native_bf16("cpu"), reason="this CPU does not multiply in bf16")
def test_in_bf16_logits_stay_close_and_are_not_rounded_to_its_eight_bits() -> None:
    assert printed(NATIVE_BF16, {}) == "torch.float32 True False\n" * 2


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_linear_layer_is_packed_and_the_model_decodes(model: LanguageModel, precision: str) -> None:
    prepare_for_decoding(model, precision)
    assert not [module for module in model.modules() if isinstance(module, Linear | nn.Dropout)]
    [one, other] = decode(model, [[1, 2], [3]], generation(3), stop_ids=())
    assert len(one.ids) == len(other.ids) == 3


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
def test_a_layer_works_without_rows_and_where_openmp_gives_too_few_threads(
    bias: bool, gelu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = nn.Linear(48, 32, bias=bias)
    packed = PackedLinear(layer, torch.float32, gelu)
    x = torch.randn(2, 3, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = packed(x)
        assert packed(x[:0]).shape == (0, 3, 32)
        monkeypatch.setattr("llmcore.model.packed.gives_threads", lambda: False)
        torch.testing.assert_close(packed(x), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_on_another_device_fp32_stays_and_the_others_are_refused(precision: str) -> None:
    model = tiny_gpt().to("meta")
    if precision == "fp32":
        prepare_for_decoding(model, precision)
        assert isinstance(model.lm_head, Linear)
    else:
        with pytest.raises(UserError, match=f"--precision: {precision} .* x86 CPU"):
            prepare_for_decoding(model, precision)


def test_bf16_is_refused_where_the_cpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    with pytest.raises(UserError, match="--precision: bf16 needs an x86 CPU with avx512_bf16"):
        prepare_for_decoding(tiny_gpt(), "bf16")


@pytest.mark.skipif(not has_avx2(), reason="numerics are portable on CPUs with AVX2 only")
def test_portable_numerics_keep_their_own_matmul() -> None:
    assert printed(PORTABLE_FP32, PORTABLE) == "Linear\n"
