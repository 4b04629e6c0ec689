"""Formulas of operations and bytes against what torch counts and allocates."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import END_OF_TEXT, classifier_of, llama_config, tiny_gpt, training
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llmcore.base import matmul
from llmcore.base.seeds import torch_generator
from llmcore.model.classifier import SequenceClassifier, set_trainable
from llmcore.model.costs import (
    ActivationCounter,
    gathered_bytes,
    gradient_bytes,
    optimizer_bytes,
    training_flops,
    weight_bytes,
)
from llmcore.model.lora import apply_lora, frozen_in_bf16, train_only_lora
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel, TransformerWithHead
from llmcore.train.optimizer import make_optimizer

ROWS, LENGTH = 3, 8


def gpt2() -> LanguageModel:
    return tiny_gpt()


def untied_gpt2() -> LanguageModel:
    return tiny_gpt(tied_head=False)


def llama() -> LanguageModel:
    model = new_model(llama_config())
    model.initialise(torch_generator(0, "initialise"))
    return model


def with_lora(model: TransformerWithHead, targets: list[str]) -> TransformerWithHead:
    generator = torch_generator(0, "lora")
    apply_lora(model, targets, rank=2, alpha=2, scaling="alpha/rank", dropout=0.0, generator=generator)
    train_only_lora(model, also=["score."])
    return model


def gpt2_lora() -> TransformerWithHead:
    return with_lora(tiny_gpt(), ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"])


def llama_lora() -> TransformerWithHead:
    return with_lora(llama(), ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])


def classifier(trainable: str) -> SequenceClassifier:
    model = classifier_of(llama_config())
    model.body.initialise(torch_generator(0, "initialise"))
    model.initialise_head(torch_generator(0, "head"))
    set_trainable(model, trainable)
    return model


MODELS: dict[str, Callable[[], TransformerWithHead]] = {
    "gpt2": gpt2,
    "untied gpt2": untied_gpt2,
    "llama": llama,
    "gpt2, LoRA": gpt2_lora,
    "llama, LoRA": llama_lora,
    "classifier, all": lambda: classifier("all"),
    "classifier, last block": lambda: classifier("last_block"),
    "classifier, head": lambda: classifier("head"),
}


def loss_of(model: TransformerWithHead) -> Any:
    ids = torch.arange(ROWS * LENGTH).view(ROWS, LENGTH) % END_OF_TEXT
    if isinstance(model, SequenceClassifier):
        return model(ids, torch.full((ROWS,), LENGTH - 1)).float().sum()
    return model(ids, targets=ids)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> TransformerWithHead:
    return MODELS[request.param]().train()


def test_operations_are_those_that_torch_counts(model: TransformerWithHead, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "_PORTABLE", False)  # torch does not see OpenBLAS's
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            loss = loss_of(model)
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    found = training_flops(model, rows=ROWS, length=LENGTH, n_targets=ROWS * LENGTH)
    counted = (forward.get_total_flops(), backward.get_total_flops())
    if isinstance(model, LanguageModel):  # the loss computes the head's gradients in the forward pass
        trains_head = model.lm_head.weight.requires_grad
        moved = 2 * ROWS * LENGTH * model.lm_head.weight.numel() * (1 + trains_head)
        counted = (counted[0] - moved, counted[1] + moved)
    assert found == counted


def test_a_fully_trained_model_has_the_operations_of_the_rule() -> None:
    """6 N + 12 L C T per token, N the parameters of the matmuls."""
    model = gpt2()
    matrices = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear))
    config = model.config
    rule = ROWS * LENGTH * (6 * matrices + 12 * config.n_layer * config.n_embd * LENGTH)
    assert sum(training_flops(model, rows=ROWS, length=LENGTH, n_targets=ROWS * LENGTH)) == rule


def test_cached_blocks_cost_nothing() -> None:
    model = classifier("last_block")
    whole = training_flops(model, rows=ROWS, length=LENGTH, n_targets=ROWS)
    rest = training_flops(model, rows=ROWS, length=LENGTH, n_targets=ROWS, n_cached_blocks=model.n_frozen_blocks)
    assert rest[0] < 0.6 * whole[0]
    assert rest[1] == whole[1]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_optimizer_keeps_the_bytes_of_the_formula(model: TransformerWithHead, optimizer: str) -> None:
    if optimizer == "muon" and not any(p.requires_grad for p in model.block_parameters()):
        pytest.skip("Muon has no matrix")
    made = make_optimizer(model, training(optimizer=optimizer))
    for group in made.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    made.step()
    assert optimizer_bytes(model, optimizer) == sum(
        tensor.nbytes for state in made.state.values() for tensor in state.values()
    )


def test_weights_take_the_bytes_of_the_formula(model: TransformerWithHead) -> None:
    assert weight_bytes(model) == sum(parameter.nbytes for parameter in model.parameters())


def test_weights_under_lora_take_half_in_bf16() -> None:
    model = llama_lora()
    with frozen_in_bf16(model, llama().state_dict):
        assert weight_bytes(model, bf16=True) == sum(parameter.nbytes for parameter in model.parameters())


def test_a_shard_has_two_blocks_and_what_is_around_them_whole() -> None:
    model = gpt2()
    block = sum(parameter.numel() for parameter in model.body.blocks[0].parameters())
    around = sum(parameter.numel() for parameter in model.parameters()) - len(model.body.blocks) * block
    assert gathered_bytes(model) == 4 * around + 4 * 2 * block
    assert gathered_bytes(model, bf16=True) == 4 * around + 2 * 2 * block


def test_gradients_are_kept_once_for_each_level_of_the_tree() -> None:
    """Of four micro-batches, the sum of the first two and the third wait while the fourth is computed."""
    once = gradient_bytes(gpt2(), n_micro_batches=1, processes=1)
    assert once == 4 * sum(parameter.numel() for parameter in gpt2().parameters())
    assert gradient_bytes(gpt2(), n_micro_batches=4, processes=1) == 3 * once
    assert gradient_bytes(gpt2(), n_micro_batches=1, processes=2) == 2 * once


def test_activations_are_what_the_layers_save() -> None:
    """The inputs of two linear layers and of the GELU between them; a tensor that two of them save counts once."""
    model = nn.Sequential(nn.Linear(4, 10), nn.GELU(), nn.Linear(10, 4))
    with ActivationCounter() as kept:
        model(torch.ones(3, 4))
    assert kept.bytes == 4 * 3 * (4 + 10 + 10)


def test_what_was_counted_is_freed() -> None:
    """A softmax saves its own result, which would keep the graph that keeps it."""
    with ActivationCounter() as kept:
        result = torch.ones(3, requires_grad=True).softmax(-1)
    assert kept.bytes == 12
    memory = weakref.ref(result)
    del result
    assert memory() is None


def test_bf16_saves_fewer_bytes() -> None:
    found = []
    for enabled in (False, True):
        model = gpt2().train()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled), ActivationCounter() as kept:
            loss_of(model)
        found.append(kept.bytes)
    assert found[1] < found[0]
