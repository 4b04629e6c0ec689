"""Randomness has owners: every consumer draws from a generator of its own, derived from one seed."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(seed: int, *owner: str | int) -> int:
    """Return a 63-bit seed for `owner` (e.g. `"order", epoch`): equal inputs, equal seed, no other relation."""
    name = "/".join(str(part) for part in (seed, *owner))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *owner: str | int) -> "np.random.Generator":
    """Return NumPy's generator of `owner`; its bit stream (PCG64) is the same on every platform."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(derive(seed, *owner)))


def torch_generator(seed: int, *owner: str | int) -> "torch.Generator":
    """Return a CPU generator of `owner`; draw on the CPU and move the result, so devices agree."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *owner))
