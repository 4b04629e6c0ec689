"""Random generators: every consumer has its own, derived from one seed and the consumer's name."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(seed: int, *owner: str | int) -> int:
    """Return the 63-bit seed of `owner` (e.g. `"order", epoch`), a hash of its arguments."""
    name = "/".join(str(part) for part in (seed, *owner))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *owner: str | int) -> "np.random.Generator":
    """Return the NumPy generator of `owner`; its bit stream (PCG64) is the same on every platform."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(derive(seed, *owner)))


def torch_generator(seed: int, *owner: str | int) -> "torch.Generator":
    """Return the torch generator of `owner`, on the CPU: draw there and move the result, so that devices agree."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *owner))
