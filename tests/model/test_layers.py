"""The linear layer gives what torch's gives, whoever multiplies."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from llmcore.model.layers import Linear


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def layer(bias: bool = True) -> Linear:
    made, generator = Linear(48, 32, bias=bias), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(generator=generator)
    return made


def product_of(made: Linear, x: torch.Tensor) -> str:
    with Operations() as seen:
        made(x)
    return "onednn" if any("mkldnn" in name for name in seen.names) else "torch"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 48), (64, 48), (2, 5, 48), (0, 48)])
def test_without_gradients_it_is_torchs_product(bias: bool, shape: tuple[int, ...]) -> None:
    made, x = layer(bias), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(made(x), F.linear(x, made.weight, made.bias))
        strided = x.transpose(0, -2)
        torch.testing.assert_close(made(strided), F.linear(strided, made.weight, made.bias))


def test_a_row_does_not_depend_on_its_neighbours_beyond_rounding() -> None:
    made, x = layer(), torch.randn(64, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(made(x)[:1], made(x[:1]))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")
def test_onednn_multiplies_where_nothing_is_differentiated() -> None:
    made, x = layer(), torch.ones(3, 48)
    assert product_of(made, x) == "torch"
    with torch.no_grad():
        assert product_of(made, x) == "onednn"
        assert product_of(made.double(), x.double()) == "torch"
        made.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert product_of(made, x) == "torch"
    with torch.inference_mode():
        assert product_of(made, x) == "onednn"


def test_gradients_are_torchs() -> None:
    made, x = layer(), torch.randn(4, 48, generator=torch.Generator().manual_seed(1))
    made(x).square().sum().backward()
    weight = made.weight.detach().requires_grad_()
    F.linear(x, weight, made.bias.detach()).square().sum().backward()
    assert made.weight.grad is not None
    assert weight.grad is not None
    assert torch.equal(made.weight.grad, weight.grad)
