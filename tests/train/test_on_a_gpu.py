"""Training on a GPU: nothing waits for it, its bytes repeat, its numbers are the CPU's. Skipped where there is none."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import (
    CPU,
    END_OF_TEXT,
    EVERY_STEP,
    TRAININGS,
    compute_params,
    equal_bits,
    generation,
    language_task,
    llama_pretraining,
    lora_classification,
    pretraining,
    tiny_gpt,
    training,
    weights,
)
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from train.broken import check_that_no_weight_changes

from llmcore.config.params import ComputeParams
from llmcore.generate.decode import decode
from llmcore.model.costs import ActivationCounter, gradient_bytes, optimizer_bytes, weight_bytes
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.loss import MAX_LOGITS_BYTES
from llmcore.model.registry import new_model
from llmcore.tasks.next_token import TokenBatch, next_token_loss
from llmcore.train.blocks import trained_model
from llmcore.train.compute import Compute, setup_compute
from llmcore.train.history import History
from llmcore.train.loop import fit
from llmcore.train.optimizer import make_optimizer
from llmcore.train.resume import DiskCheckpointer
from llmcore.train.state import State
from llmcore.train.step import start_step

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]

Made = tuple[Any, Any]
Make = Callable[[torch.device], Made]


def settings(precision: str = "fp32") -> ComputeParams:
    return compute_params(device="cuda", precision=precision, determinism="strict")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    strict, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(strict)
    torch.set_num_threads(threads)


@pytest.fixture(params=["fp32", "bf16"])
def gpu(request: pytest.FixtureRequest) -> Compute:
    """A GPU set up as a stage does it, in each precision."""
    return setup_compute(settings(request.param))


def trained(make: Make, compute: Compute, **changes: Any) -> tuple[dict[str, Tensor], History]:
    model, task = make(compute.device)
    history = History()
    with trained_model(model, compute) as prepared:
        fit(prepared, task, training(epochs=2.0, **changes), seed=1, compute=compute, callback=history)
    return weights(model), history


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("make", TRAININGS)
def test_no_step_waits_for_the_gpu(gpu: Compute, make: Make, optimizer: str) -> None:
    model, task = make(gpu.device)
    optimizing = make_optimizer(model, training(optimizer=optimizer))
    how: dict[str, Any] = {"lr": 1e-3, "grad_clip": 1.0, "seed": 0, "compute": gpu}
    start_step(model, task, optimizing, 0, **how)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        started = [start_step(model, task, optimizing, step, **how) for step in (1, 2)]
        with pytest.raises(RuntimeError):
            torch.ones(1, device=gpu.device).item()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(math.isfinite(step.result().loss) for step in started)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("make", TRAININGS)
def test_a_training_repeats_to_the_byte(gpu: Compute, make: Make, optimizer: str) -> None:
    first, second = (trained(make, gpu, optimizer=optimizer) for _ in range(2))
    assert equal_bits(first[0], second[0])
    assert first[1].dump() == second[1].dump()


class Dying(DiskCheckpointer):
    """Saves each step and dies after the fifth."""

    def after_step(self, state: State, *, last: bool) -> None:
        super().after_step(state, last=last)
        self.wait()
        if state.step == 5:
            raise KeyboardInterrupt


class Resumed(History):
    """Knows after which step it was resumed."""

    after = 0

    def on_resume(self, step: int) -> None:
        super().on_resume(step)
        self.after = step


@pytest.mark.parametrize("make", [pretraining, lora_classification])
def test_a_resumed_training_ends_with_the_bytes_of_an_undisturbed_one(
    gpu: Compute, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmcore.train.resume.MAX_WRITE_SHARE", 1e9)  # save each step, however long that takes
    whole = trained(make, gpu)
    model, task = make(gpu.device)
    history = History()
    dying = Dying(tmp_path, history, EVERY_STEP)
    with pytest.raises(KeyboardInterrupt):
        fit(model, task, training(), seed=1, compute=gpu, callback=history, checkpointer=dying)
    model, task = make(gpu.device)
    history = Resumed()
    saved = DiskCheckpointer(tmp_path, history, EVERY_STEP)
    fit(model, task, training(), seed=1, compute=gpu, callback=history, checkpointer=saved)
    assert history.after == 5
    assert equal_bits(weights(model), whole[0])
    assert history.dump() == whole[1].dump()


def without_dropout(device: torch.device) -> Made:
    return tiny_gpt().to(device), language_task(4, 2, device=device)


def test_losses_are_those_of_the_cpu(gpu: Compute) -> None:
    here, there = (trained(without_dropout, compute)[1].steps for compute in (CPU, gpu))
    tolerance = 1e-5 if gpu.precision == "fp32" else 2e-2
    assert [step["train/loss"] for step in there] == pytest.approx([step["train/loss"] for step in here], rel=tolerance)


def test_fp32_is_not_tf32() -> None:
    setup_compute(settings())
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator, dtype=torch.float64) for _ in range(2))
    product = (a.float().cuda() @ b.float().cuda()).cpu().double()
    assert torch.linalg.matrix_norm(product - a @ b) / torch.linalg.matrix_norm(a @ b) < 1e-6


@pytest.mark.parametrize("make", [pretraining, llama_pretraining, lora_classification])
def test_attention_is_a_fused_kernel(gpu: Compute, make: Make) -> None:
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):  # fails where neither is possible
        trained(make, gpu)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_after_a_loss_that_is_not_finite_no_weight_changes(gpu: Compute, optimizer: str) -> None:
    check_that_no_weight_changes(gpu, optimizer)


@pytest.mark.parametrize("make", [pretraining, llama_pretraining, lora_classification])
def test_computing_the_blocks_again_changes_no_byte(gpu: Compute, make: Make) -> None:
    plain, again = (
        trained(make, replace(gpu, activation_checkpointing=checkpointing)) for checkpointing in (False, True)
    )
    assert equal_bits(plain[0], again[0])
    assert plain[1].dump() == again[1].dump()


@pytest.mark.parametrize("make", [without_dropout, llama_pretraining])
def test_compiled_blocks_learn_nearly_the_same(gpu: Compute, make: Make) -> None:
    found = [trained(make, replace(gpu, compile=compile))[1].steps for compile in (False, True)]
    plain, compiled = ([step["train/loss"] for step in steps] for steps in found)
    assert compiled == pytest.approx(plain, rel=1e-4 if gpu.precision == "fp32" else 2e-2)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_peak_memory_is_that_of_the_plan(gpu: Compute, checkpointing: bool) -> None:
    compute = replace(gpu, activation_checkpointing=checkpointing)
    config = GPT2Config(8192, 512, 8, 8, 512, dropout=0.0, qkv_bias=True, tied_head=True)
    model = new_model(config).to(gpu.device).train()
    ids = np.random.default_rng(0).integers(0, 8192, (8, 513))
    batch = TokenBatch.of(ids[:, :-1].copy(), ids[:, 1:].copy(), 8 * 512, gpu.device)

    def loss() -> Tensor:
        with gpu.autocast():
            return next_token_loss(model, batch)

    with trained_model(model, compute):
        with ActivationCounter() as kept:
            loss()
        optimizer = make_optimizer(model, training())
        torch.cuda.reset_peak_memory_stats()
        for _ in range(2):
            loss().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        peak = torch.cuda.max_memory_allocated()
    planned = kept.bytes + weight_bytes(model) + optimizer_bytes(model, "adamw")
    planned += gradient_bytes(model, n_micro_batches=1, processes=1)
    if checkpointing:  # the inputs of the blocks are kept, in fp32
        planned += 4 * ids[:, 1:].size * config.n_embd * config.n_layer
    beside = 3 * MAX_LOGITS_BYTES  # 67 MB of logits in bf16 and what is computed from them, and one block
    assert 0.8 * planned < peak < planned + beside


def test_greedy_text_is_that_of_the_cpu() -> None:
    setup_compute(settings())
    prompts = [[1, 2, 3], [4], [5, 6]]
    here, there = (
        [found.ids for found in decode(tiny_gpt().to(device), prompts, generation(), stop_ids=(END_OF_TEXT,))]
        for device in (CPU.device, torch.device("cuda"))
    )
    assert here == there
