"""The order of training rows: which rows make the batch of a step is a function of (seed, step) alone.

So a resumed training needs no iterator state, and one epoch more changes nothing in those before.
"""

from functools import lru_cache

import numpy as np

from llmcore.seeds import numpy_generator

POOL_BATCHES = 16  # rows of similar length are looked for among so many batches


class Order:
    """Every row once an epoch, shuffled anew in each.

    With `lengths`, rows of similar length share a batch, so that little of it is padding: the shuffled
    rows are sorted by length inside pools of `POOL_BATCHES` batches, and the batches shuffled.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, lengths: np.ndarray | None = None):
        self.rows, self.batch_size, self.seed, self.lengths = rows, batch_size, seed, lengths
        self.steps_per_epoch = -(-rows // batch_size)
        self._epoch = lru_cache(maxsize=2)(self._batches)

    def batch(self, step: int) -> np.ndarray:
        """Return the row indices of `step` (0 is the first); one batch of an epoch may be smaller."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[place]

    def _batches(self, epoch: int) -> list[np.ndarray]:
        generator = numpy_generator(self.seed, "order", epoch)
        rows = generator.permutation(self.rows)
        if self.lengths is None:
            return self._cut(rows)
        pool = POOL_BATCHES * self.batch_size
        pools = [rows[begin : begin + pool] for begin in range(0, self.rows, pool)]
        rows = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in pools])
        batches = self._cut(rows)
        return [batches[place] for place in generator.permutation(len(batches))]

    def _cut(self, rows: np.ndarray) -> list[np.ndarray]:
        return [rows[begin : begin + self.batch_size] for begin in range(0, self.rows, self.batch_size)]
