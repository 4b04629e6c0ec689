"""Every owner has a random generator of its own."""

import hashlib

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.base.seeds import derive, numpy_generator, torch_generator


def test_a_seed_is_the_same_on_every_machine_and_in_every_version() -> None:
    """A change here changes every result."""
    assert derive(123, "order", 0) == int(hashlib.sha256(b"123/order/0").hexdigest()[:16], 16) // 2
    assert numpy_generator(123, "order", 0).permutation(5).tolist() == [0, 3, 1, 2, 4]
    assert torch.randperm(5, generator=torch_generator(123, "decode", 0)).tolist() == [4, 2, 1, 0, 3]


@settings(deadline=None)
@given(seed=st.integers(), owner=st.text(max_size=5), number=st.integers(0, 9))
def test_seeds_fit_every_generator(seed: int, owner: str, number: int) -> None:
    assert 0 <= derive(seed, owner, number) < 1 << 63


def test_owners_do_not_share_a_seed() -> None:
    owners: list[tuple[int, *tuple[str | int, ...]]] = [
        (1,),
        (1, "order"),
        (1, "order", 0),
        (1, "order", 1),
        (1, "dropout", 0),
        (2, "order", 0),
        (11, 1),
        (1, 11),
    ]
    assert len({derive(*owner) for owner in owners}) == len(owners)


def test_generators_are_independent_of_the_global_ones() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    first = (torch.rand(3, generator=torch_generator(1, "a")), numpy_generator(1, "a").random(3))
    torch.rand(5)
    second = (torch.rand(3, generator=torch_generator(1, "a")), numpy_generator(1, "a").random(3))
    assert torch.equal(first[0], second[0])
    assert (first[1] == second[1]).all()
