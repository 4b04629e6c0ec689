"""Rotary positions: a query or key is turned, pair by pair of its numbers, by angles that grow with its position.

The product of a turned query and a turned key then depends on their distance alone. Paper: Su et al. 2021,
arXiv:2104.09864. Shapes in the margin: B batch, H heads, T time (tokens), D head size.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmcore.base.transfer import to_device


@dataclass(frozen=True)
class Llama3Scaling:
    """Slower turns for contexts longer than trained: Llama 3.1's. Waves shorter than a part of the old context stay."""

    factor: float  # by which the slow ones are slowed down
    low_freq_factor: float
    high_freq_factor: float
    original_context_length: int

    def slowed(self, frequencies: np.ndarray) -> np.ndarray:
        """Return the scaled frequencies; between slow and fast ones the scale changes smoothly."""
        waves = self.original_context_length * frequencies / (2 * math.pi)  # in the old context
        share = (waves - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = np.clip(share, 0, 1)  # 1: a fast one, unchanged
        found: np.ndarray = kept * frequencies + (1 - kept) * frequencies / self.factor
        return found


@dataclass(frozen=True)
class Rotary:
    """How fast each pair turns."""

    theta: float  # the slowest pair turns by about 1 / theta per position
    scaling: Llama3Scaling | None = None

    def frequencies(self, head_size: int) -> Tensor:
        """Return the angle per position of each pair, in radians: (D / 2,)."""
        found = self.theta ** -(np.arange(0, head_size, 2) / head_size)
        found = found if self.scaling is None else self.scaling.slowed(found)
        return torch.from_numpy(found.astype(np.float32))


def rotation(positions: Tensor, rotary: Rotary, head_size: int) -> Tensor:
    """Return cosine and sine of each position's angles: (T,) or (B, T) -> (2, 1 or B, 1, T, D / 2), in fp32.

    Angles are rounded to fp32, as the published models were trained. On a CPU NumPy computes from there: the result
    of torch's cosine depends on the vendor of the CPU.
    """
    angles = positions[..., None].float() * to_device(
        rotary.frequencies(head_size), positions.device
    )  # ([B,] T, D / 2)
    if angles.device.type == "cpu":
        exact = angles.double().numpy()
        turned = torch.from_numpy(np.stack([np.cos(exact), np.sin(exact)])).float()
    else:
        turned = torch.stack([angles.cos(), angles.sin()])
    return turned.reshape(2, -1, 1, *angles.shape[-2:])


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn (B, H, T, D): number i and number i + D / 2 are a pair, as in Hugging Face's layout."""
    cosine, sine = rotation
    first, second = x.chunk(2, dim=-1)  # (B, H, T, D / 2)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
