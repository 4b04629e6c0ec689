"""Muon equals torch's own, which computes in bf16, and keeps what its docstring promises."""

import pytest
import torch
from tiny import tiny_gpt, training
from torch import nn

from llmcore.train.muon import MuonWithAdamW, newton_schulz
from llmcore.train.optimizer import make_optimizer


def matrices(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4), (1, 5)])
def test_newton_schulz_makes_singular_values_about_one_and_keeps_the_directions(shape: tuple[int, ...]) -> None:
    given = matrices(*shape)
    left, _, right = torch.linalg.svd(given, full_matrices=False)
    found = left.mT @ newton_schulz(given) @ right.mT  # (k, k), what is left of S
    values = found.diagonal()
    assert 0.6 < values.min() <= values.max() < 1.3
    assert (found - torch.diag_embed(values)).abs().max() < 1e-4


def test_newton_schulz_of_zeros_is_zeros() -> None:
    assert torch.equal(newton_schulz(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_updates_equal_those_of_torch_within_its_bf16() -> None:
    ours = [nn.Parameter(matrices(6, 4)), nn.Parameter(matrices(4, 9)), nn.Parameter(matrices(6, 4) * 2)]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    before = [parameter.detach().clone() for parameter in ours]
    optimizer = MuonWithAdamW([{"params": ours, "muon": True}], lr=0.02, weight_decay=0.1, fused=True)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(step))
            other.grad = one.grad.clone()
        optimizer.step()
        reference.step()
    for one, other, start in zip(ours, theirs, before, strict=True):
        moved = (other - start).norm()
        assert (one - other).norm() < 0.02 * moved


def test_all_but_the_matrices_of_the_blocks_is_updated_as_by_adamw() -> None:
    muon, adamw = tiny_gpt(), tiny_gpt()
    for model, kind in ((muon, "muon"), (adamw, "adamw")):
        for number, parameter in enumerate(model.parameters()):
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
        make_optimizer(model, training(optimizer=kind)).step()
    others = dict(adamw.named_parameters())
    differ = {name for name, parameter in muon.named_parameters() if not torch.equal(parameter, others[name])}
    blocks = {name for name, p in muon.named_parameters() if name.startswith("transformer.h.") and p.ndim == 2}
    assert differ == blocks
    assert all(parameter.isfinite().all() for parameter in muon.parameters())


def test_a_model_without_trained_matrices_in_its_blocks_is_updated_as_by_adamw() -> None:
    """As a classifier whose head alone is trained."""
    results = []
    for name in ("muon", "adamw"):
        model = tiny_gpt()
        for parameter in model.block_parameters():
            parameter.requires_grad = False
        optimizer = make_optimizer(model, training(optimizer=name))
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
        optimizer.step()
        results.append(dict(model.named_parameters()))
    muon, adamw = results
    assert all(torch.equal(muon[name], adamw[name]) for name in adamw)
