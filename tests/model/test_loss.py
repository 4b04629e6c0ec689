"""The loss in chunks equals the loss of all logits at once, gradients too, and holds few logits."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llmcore.model import loss as loss_module
from llmcore.model.loss import chunked_cross_entropy

N = 23
C = 8
V = 50  # no multiple of what a GPU likes


@pytest.fixture(params=["cpu", "gpu"])
def _as_on_each_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute on the CPU as it is computed on each device."""
    monkeypatch.setattr(loss_module, "_is_on_cpu", lambda x: request.param == "cpu")


on_each_device = pytest.mark.usefixtures("_as_on_each_device")


def inputs(dtype: torch.dtype, trained: tuple[bool, bool] = (True, True)) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, C, generator=draw, dtype=dtype).requires_grad_(trained[0])
    weight = torch.randn(V, C, generator=draw, dtype=dtype).requires_grad_(trained[1])
    return hidden, weight, torch.randint(0, V, (N,), generator=draw)


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    logits = F.linear(hidden, weight)
    return F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), targets, reduction="sum")


def gradients(loss: Any, arguments: tuple[Tensor, Tensor, Tensor]) -> list[Tensor | None]:
    for tensor in arguments[:2]:
        tensor.grad = None
    (loss(*arguments) / 7).backward()
    return [tensor.grad for tensor in arguments[:2]]


@on_each_device
@pytest.mark.parametrize("rows", [1, 5, N, 100])
@pytest.mark.parametrize("trained", [(True, True), (True, False), (False, True)])
def test_loss_and_gradients_equal_those_of_all_logits_at_once(
    monkeypatch: pytest.MonkeyPatch, rows: int, trained: tuple[bool, bool]
) -> None:
    monkeypatch.setattr(loss_module, "MAX_LOGITS_BYTES", rows * V * 8)  # in float64
    monkeypatch.setattr(loss_module, "MAX_CACHED_LOGITS", 3 * V)
    arguments = inputs(torch.float64, trained)
    torch.testing.assert_close(chunked_cross_entropy(*arguments), plain(*arguments), rtol=1e-12, atol=0)
    for ours, theirs in zip(gradients(chunked_cross_entropy, arguments), gradients(plain, arguments), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@on_each_device
def test_without_gradients_the_loss_is_the_same() -> None:
    arguments = inputs(torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(chunked_cross_entropy(*arguments), plain(*arguments))


@on_each_device
def test_under_autocast_matmuls_are_bf16_and_the_loss_fp32() -> None:
    arguments = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = chunked_cross_entropy(*arguments), plain(*arguments)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs)
    exact = gradients(plain, arguments)
    with torch.autocast("cpu", torch.bfloat16):
        rough = gradients(chunked_cross_entropy, arguments)
    for ours_grad, exact_grad in zip(rough, exact, strict=True):
        assert ours_grad is not None
        assert exact_grad is not None
        assert ours_grad.dtype == torch.float32
        assert (ours_grad - exact_grad).norm() < 0.02 * exact_grad.norm()


class Sizes(TorchDispatchMode):
    """Records the number of elements of the largest tensor that is created."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.largest = max(self.largest, out.numel())
        return out


def test_the_logits_of_all_positions_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the loss nor in its backward pass; of all logits at once there are N * V."""
    monkeypatch.setattr(loss_module, "MAX_LOGITS_BYTES", 4 * V * 4)  # in fp32
    arguments = inputs(torch.float32)
    with Sizes() as ours:
        gradients(chunked_cross_entropy, arguments)
    with Sizes() as theirs:
        gradients(plain, arguments)
    assert theirs.largest == N * V
    assert ours.largest == max(V * C, 4 * V)


@on_each_device
def test_without_positions_the_loss_and_its_gradient_are_zero() -> None:
    hidden, weight, targets = inputs(torch.float32)
    loss = chunked_cross_entropy(hidden[:0], weight, targets[:0])
    assert loss.item() == 0.0
    [gradient] = torch.autograd.grad(loss, weight)
    assert torch.equal(gradient, torch.zeros_like(weight))
