"""An int8 layer computes what the fp32 layer does, up to rounding."""

import pytest
import torch
from tiny import generation, tiny_gpt
from torch import nn

from llmcore.generate.decode import decode
from llmcore.model.int8 import Int8Linear, to_int8
from llmcore.model.layers import Linear

pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per")  # deprecated, in a torch that is pinned


def test_a_layer_whose_weights_fit_eight_bits_is_exact_except_for_its_inputs() -> None:
    layer = nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[127.0, -5, 0, 3], [1, 2, -127, 4], [127, 0, 0, 0]]) / 64)
    x = torch.tensor([[0.0, 1.0, -1.0, 0.5]])
    torch.testing.assert_close(Int8Linear(layer)(x), layer(x), rtol=0.02, atol=0.02)


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
        to_int8(rounded)
        ids = torch.arange(12).view(2, 6)
        exact, near = model(ids), rounded(ids)
    assert not [layer for layer in rounded.modules() if isinstance(layer, Linear)]
    assert (near - exact).norm() < 0.05 * exact.norm()
    assert (near.argmax(-1) == exact.argmax(-1)).float().mean() > 0.8


def test_an_int8_model_decodes() -> None:
    model = tiny_gpt()
    to_int8(model)
    [one, other] = decode(model, [[1, 2], [3]], generation(3), stop_id=None)
    assert len(one) == len(other) == 3
