"""Attention: the fused kernel equals the definition, and packed texts do not see each other."""

import math

import pytest
import torch

from llmcore.model.attention import explicit_attention, fused_attention, packed_layout


@pytest.mark.parametrize(("time", "seen"), [(7, 7), (1, 1), (1, 7), (3, 7), (6, 7)])
def test_fused_attention_equals_explicit_attention_in_values_and_gradients(time, seen):
    generator = torch.Generator().manual_seed(1)
    shapes = [(2, 3, time, 4), (2, 3, seen, 4), (2, 3, seen, 4)]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    query, key, value = inputs
    seed = torch.randn(shapes[0], generator=generator, dtype=torch.float64)
    explicit, fused = explicit_attention(query, key, value, 0.0), fused_attention(query, key, value, 0.0)
    torch.testing.assert_close(fused, explicit, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(outcome, inputs, seed) for outcome in (explicit, fused)]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_kv_head", [1, 2, 3])
@pytest.mark.parametrize(("time", "seen"), [(7, 7), (1, 7), (3, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # the first goes through the portable matmuls
def test_heads_of_keys_serve_their_groups_of_queries(n_kv_head, time, seen, dtype):
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(2, 6, time, 4, generator=generator, dtype=dtype, requires_grad=True)
    key, value = (
        torch.randn(2, n_kv_head, seen, 4, generator=generator, dtype=dtype, requires_grad=True) for _ in range(2)
    )
    inputs = (query, key, value)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    wide_key, wide_value = (tensor.repeat_interleave(6 // n_kv_head, dim=1) for tensor in exact[1:])
    expected = explicit_attention(exact[0], wide_key, wide_value, 0.0)
    seed = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    outcomes = [explicit_attention(query, key, value, 0.0), fused_attention(query, key, value, 0.0)]
    atol = 1e-5 if dtype == torch.float32 else 1e-12
    for outcome in outcomes:
        torch.testing.assert_close(outcome.double(), expected, rtol=0, atol=atol)
        for found, wanted in zip(
            torch.autograd.grad(outcome, inputs, seed.to(dtype), retain_graph=True),
            torch.autograd.grad(expected, exact, seed, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(found.double(), wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("time", [5, 64, 150])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bf16_is_close_to_the_exact_one(time, masked):
    generator = torch.Generator().manual_seed(4)
    inputs = [torch.randn(2, 3, time, 16, generator=generator).bfloat16().requires_grad_() for _ in range(3)]
    mask = packed_layout(torch.arange(time)[None].expand(2, -1) // 40).mask if masked else None
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    outcomes = [fused_attention(q, k, v, 0.0, mask) for q, k, v in (inputs, exact)]
    seed = torch.randn(outcomes[0].shape, generator=generator)
    gradients = [
        torch.autograd.grad(outcome, given, seed.to(outcome.dtype))
        for outcome, given in zip(outcomes, (inputs, exact), strict=True)
    ]
    pairs = [(outcomes[0], outcomes[1]), *zip(*gradients, strict=True)]
    for ours, wanted in pairs:
        assert (ours.double() - wanted).norm() < 0.02 * wanted.norm()


def test_explicit_attention_equals_a_loop_over_positions():
    generator = torch.Generator().manual_seed(2)
    query, key, value = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    expected = [(query[t] @ key[: t + 1].T / math.sqrt(4)).softmax(-1) @ value[: t + 1] for t in range(5)]
    found = explicit_attention(query[None, None], key[None, None], value[None, None], dropout=0.0)[0, 0]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-12)


def test_explicit_attention_drops_weights():
    ones = torch.ones(1, 1, 50, 4)
    assert torch.equal(explicit_attention(ones, ones, ones, dropout=1.0), torch.zeros_like(ones))


def test_packed_texts_have_positions_of_their_own_and_do_not_see_each_other():
    layout = packed_layout(torch.tensor([[0, 0, 1, 1, 1], [3, 3, 3, 3, 4]]))
    assert layout.positions.tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 3, 0]]
    assert layout.mask is not None
    assert layout.mask.shape == (2, 1, 5, 5)
    expected = torch.block_diag(torch.ones(2, 2).tril(), torch.ones(3, 3).tril())
    assert torch.equal(layout.mask[0, 0].float(), expected)
