"""The order of training rows: which rows make the batch of a step is a function of (seed, step) alone.

So a resumed training needs no iterator state, and one epoch more changes nothing in those before.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from llmcore.base.containers import chunks
from llmcore.base.seeds import numpy_generator

POOL_BATCHES = 16  # rows of similar length are looked for among so many batches


def pack_rows(lengths: Sequence[int], room: int, seed: int) -> list[list[int]]:
    """Put texts together, in random order, so that none of the sets is longer than `room`.

    Each goes where it leaves the least room, and begins a set of its own where it fits none.
    """
    sets: list[list[int]] = []
    with_room: dict[int, list[int]] = defaultdict(list)  # room left -> the sets that have it
    for number in numpy_generator(seed, "pack").permutation(len(lengths)).tolist():
        length = lengths[number]
        left = next((left for left in range(length, room) if with_room.get(left)), room)
        if left == room:
            sets.append([])
        place = len(sets) - 1 if left == room else with_room[left].pop()
        sets[place].append(number)
        with_room[left - length].append(place)
    return sets


class Order:
    """Every row once an epoch, shuffled anew in each.

    With `lengths`, rows of similar length share a batch, so that little of it is padding: the shuffled
    rows are sorted by length inside pools of `POOL_BATCHES` batches, and the batches shuffled.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, lengths: np.ndarray | None = None):
        self.rows, self.batch_size, self.seed, self.lengths = rows, batch_size, seed, lengths
        self.steps_per_epoch = -(-rows // batch_size)
        self._shuffled = lru_cache(maxsize=2)(self._permutation)
        self._epoch = lru_cache(maxsize=2)(self._batches)

    def batch(self, step: int) -> np.ndarray:
        """Return the row indices of `step` (0 is the first); one batch of an epoch may be smaller."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self.lengths is None:  # of ten million windows a list of batches would take 160 MB
            return self._shuffled(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        return self._epoch(epoch)[place]

    def padding_share(self, micro_batch_size: int) -> float:
        """Return the share of the first epoch's tokens that are padding to the longest row of a micro-batch."""
        assert self.lengths is not None
        parts = [part for batch in self._epoch(0) for part in chunks(batch, micro_batch_size)]
        return 1 - int(self.lengths.sum()) / sum(len(part) * int(self.lengths[part].max()) for part in parts)

    def _permutation(self, epoch: int) -> np.ndarray:
        """Return the rows of an epoch without lengths, in their order."""
        rows = np.arange(self.rows, dtype=np.int32)
        numpy_generator(self.seed, "order", epoch).shuffle(rows)
        return rows

    def _batches(self, epoch: int) -> list[np.ndarray]:
        """Return the batches of an epoch with lengths."""
        assert self.lengths is not None
        generator = numpy_generator(self.seed, "order", epoch)
        rows = generator.permutation(self.rows)
        pools = chunks(rows, POOL_BATCHES * self.batch_size)
        rows = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in pools])
        batches = chunks(rows, self.batch_size)
        return [batches[place] for place in generator.permutation(len(batches))]
