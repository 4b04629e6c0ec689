"""Random-access permutations: each element is computed on demand, so none is stored.

A Feistel network permutes the cells of a square of at least `size` cells; an element that is not below `size` is
permuted again until it is (cycle walking: Black & Rogaway 2002, "Ciphers with arbitrary finite domains"). The
round functions are read from one stream of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom
number generators"). Integers only: every machine and every version of NumPy gives the same numbers.
"""

from math import isqrt

import numpy as np

ROUNDS = 10  # with 4, some permutations of four elements are visibly rarer than others


def permute(positions: np.ndarray, size: int, key: int) -> np.ndarray:
    """Return the elements of a permutation of `range(size)` at these positions, int64.

    `size` and `key` (at most 64 bits) alone decide the permutation.
    """
    elements = _feistel(positions.astype(np.uint64), size, key)
    while (outside := elements >= size).any():
        elements[outside] = _feistel(elements[outside], size, key)
    return elements.astype(np.int64)


def _feistel(cells: np.ndarray, size: int, key: int) -> np.ndarray:
    """Permute the cells of the smallest square with an even side that has at least `size` cells.

    If the side were odd, all permutations of the square would have the same parity.
    """
    side = isqrt(size - 1) // 2 * 2 + 2
    left, right = cells // side, cells % side
    for start in range(0, ROUNDS * side, side):
        left, right = right, (left + split_mix64(right + start, key)) % side
    permuted: np.ndarray = left * side + right
    return permuted


def split_mix64(places: np.ndarray, seed: int) -> np.ndarray:
    """Return SplitMix64's outputs at these places, uint64 as `places`; the first output is at place 1."""
    mixed: np.ndarray = seed + places * 0x9E3779B97F4A7C15  # arrays of uint64 wrap around, as they must here
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB
    mixed = mixed ^ (mixed >> 31)
    return mixed
