"""Mixtures of text sources: how often each is drawn, and which of its windows.

A weight is a source's share of the training windows, as in the blended datasets of Megatron-LM and litgpt. An epoch
has as many windows as there are. A source that is drawn more often than it has windows is repeated, pass after pass,
each in an order of its own; of one drawn less often, a pass takes several epochs.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import floor

import numpy as np

from llmcore.base.seeds import derive
from llmcore.data.permutation import permute


def epoch_quotas(sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Return how many windows of an epoch each source gives: its weight's share of the sum of `sizes`.

    Rounded by the largest remainder, so that they sum to it.
    """
    whole = sum(map(Fraction, weights))
    exact = [sum(sizes) * Fraction(weight) / whole for weight in weights]
    quotas = [floor(quota) for quota in exact]
    by_remainder = sorted(range(len(exact)), key=lambda number: quotas[number] - exact[number])
    for number in by_remainder[: sum(sizes) - sum(quotas)]:
        quotas[number] += 1
    return quotas


class Mixture:
    """The window at each place of an epoch, of windows that lie source after source: a pure function of the place.

    `sizes` are the windows of each source, `quotas` how many of them an epoch has.
    """

    def __init__(self, sizes: Sequence[int], quotas: Sequence[int], seed: int):
        self.sizes = sizes
        self.quotas = quotas
        self.seed = seed
        self.first_windows = np.cumsum([0, *sizes])
        self.first_places = np.cumsum([0, *quotas])

    def __call__(self, places: np.ndarray, epoch: int) -> np.ndarray:
        """Return the windows at these places of an epoch; the places of a source follow those of the one before."""
        windows = np.empty_like(places)
        sources = np.searchsorted(self.first_places, places, side="right") - 1
        for source in np.unique(sources).tolist():
            here = sources == source
            drawn = epoch * self.quotas[source] + places[here] - self.first_places[source]
            windows[here] = self.first_windows[source] + self._windows(source, drawn)
        return windows

    def _windows(self, source: int, drawn: np.ndarray) -> np.ndarray:
        """Return the `drawn`-th windows of a source: in each pass over it, every window once."""
        size = self.sizes[source]
        passes, places = np.divmod(drawn, size)
        windows = np.empty_like(places)
        for number in np.unique(passes).tolist():
            here = passes == number
            windows[here] = permute(places[here], size, derive(self.seed, "source", source, number))
        return windows
