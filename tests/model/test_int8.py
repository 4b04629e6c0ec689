"""An int8 layer computes what the fp32 layer does, up to rounding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_gpt
from torch import nn

from llmcore.model.int8 import Int8Linear
from llmcore.model.packed import prepare_for_decoding


@settings(max_examples=50, deadline=None)
@given(
    numbers=st.lists(st.floats(-1e4, 1e4, width=32), min_size=8, max_size=8), factor=st.sampled_from([1e-20, 1, 1e20])
)
def test_a_layer_whose_weights_fit_eight_bits_is_exact_to_a_part_in_ten_thousand(
    numbers: list[float], factor: float
) -> None:
    layer = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[127.0, -5, 0, 3], [1, 2, -127, 4], [127, 0, 0, 0]]) / 64)
        x = torch.tensor(numbers).view(2, 4) * factor
        error = (Int8Linear(layer)(x) - layer(x)).abs().amax(1)
        # an input of 8 bits is off by 4e-3, of 7 bits by 8e-3; below 1e-30 all are zero
        assert (error <= 1e-3 * x.abs().amax(1) + 1e-30).all()


def test_a_row_is_the_same_alone_and_beside_others() -> None:
    """One scale for all rows would round a small row away beside a large one."""
    layer = Int8Linear(nn.Linear(48, 32))
    x = torch.randn(3, 48, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e-3], [1.0], [1e3]])
    together = layer(x.view(1, 3, 48))[0]
    for row in range(3):
        assert torch.equal(layer(x[row]), together[row])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_are_not_hidden(bad: float) -> None:
    x = torch.ones(2, 4)
    x[0, 1] = bad
    found = Int8Linear(nn.Linear(4, 3))(x)
    assert not found[0].isfinite().any()
    assert found[1].isfinite().all()


@pytest.mark.parametrize("bias", [True, False])
def test_a_row_of_zeros_stays_zero(bias: bool) -> None:
    layer = nn.Linear(4, 2, bias=bias)
    nn.init.zeros_(layer.weight)
    expected = layer(torch.ones(1, 4))
    torch.testing.assert_close(Int8Linear(layer)(torch.ones(1, 4)), expected)


def test_logits_stay_close_and_the_likeliest_token_mostly_the_same() -> None:
    model = tiny_gpt(tied_head=True).eval()
    rounded = tiny_gpt(tied_head=True).eval()
    with torch.no_grad():
        for gpt in (model, rounded):
            for parameter in gpt.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(10)
        prepare_for_decoding(rounded, "int8")
        ids = torch.arange(12).view(2, 6)
        exact, near = model(ids), rounded(ids)
    assert (near - exact).norm() < 0.02 * exact.norm()
    assert (near.argmax(-1) == exact.argmax(-1)).float().mean() > 0.8
