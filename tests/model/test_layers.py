"""Linear computes what nn.Linear does, whichever library does the matmul."""

import pytest
import torch
import torch.nn.functional as F

from llmcore.model.layers import Linear


def layer(bias: bool = True) -> Linear:
    made = Linear(48, 32, bias=bias)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(generator=generator)
    return made


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 48), (64, 48), (2, 5, 48), (0, 48)])
def test_without_gradients_it_equals_f_linear(bias: bool, shape: tuple[int, ...]) -> None:
    made = layer(bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(made(x), F.linear(x, made.weight, made.bias))
        strided = x.transpose(0, -2)
        torch.testing.assert_close(made(strided), F.linear(strided, made.weight, made.bias))


def test_a_row_is_the_same_alone_and_in_a_batch_up_to_rounding() -> None:
    made = layer()
    x = torch.randn(64, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(made(x)[:1], made(x[:1]))


def test_gradients_equal_those_of_f_linear() -> None:
    made = layer()
    x = torch.randn(4, 48, generator=torch.Generator().manual_seed(1))
    made(x).square().sum().backward()
    weight = made.weight.detach().requires_grad_()
    F.linear(x, weight, made.bias.detach()).square().sum().backward()
    assert made.weight.grad is not None
    assert weight.grad is not None
    torch.testing.assert_close(made.weight.grad, weight.grad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_in_other_precisions_it_equals_f_linear(dtype: torch.dtype) -> None:
    made = layer().to(dtype)
    x = torch.randn(3, 48, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.no_grad():
        assert torch.equal(made(x), F.linear(x, made.weight, made.bias))


def test_under_autocast_it_computes_in_bf16() -> None:
    made = layer()
    x = torch.randn(3, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert made(x).dtype == torch.bfloat16
        assert torch.equal(made(x), F.linear(x, made.weight, made.bias))
