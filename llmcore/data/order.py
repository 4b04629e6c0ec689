"""The order of training rows: the rows of a step's batch depend on (seed, step) alone.

So a resumed training needs no iterator state, and another epoch changes none of the earlier ones.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from llmcore.base.containers import chunks
from llmcore.base.seeds import numpy_generator

BATCHES_PER_POOL = 16  # rows are sorted by length within a pool of this many batches


def pack_rows(lengths: Sequence[int], room: int, seed: int) -> list[list[int]]:
    """Pack texts of these lengths into sets of at most `room` tokens; return the indices of each set.

    Best fit in random order: a text goes into the set in which it leaves the least room, or starts a
    new set if it fits in none.
    """
    sets: list[list[int]] = []
    with_room: dict[int, list[int]] = defaultdict(list)  # room left -> sets with this much room
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
    """Every row once per epoch, in a new random order in each epoch.

    With `lengths`, rows of similar length share a batch, which saves padding: the shuffled rows are
    sorted by length within pools of `BATCHES_PER_POOL` batches, then the batches are shuffled.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, lengths: np.ndarray | None = None):
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.lengths = lengths
        self.steps_per_epoch = -(-rows // batch_size)
        self._shuffled = lru_cache(maxsize=2)(self._permutation)
        self._epoch = lru_cache(maxsize=2)(self._batches)

    def batch(self, step: int) -> np.ndarray:
        """Return the row indices of `step` (0 is the first); one batch of an epoch may be smaller."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self.lengths is None:  # a list of the batches of ten million windows would take 160 MB
            return self._shuffled(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        return self._epoch(epoch)[place]

    def padding_share(self, micro_batch_size: int) -> float:
        """Return the share of the first epoch's tokens that are padding to the longest row of a micro-batch."""
        assert self.lengths is not None
        parts = [part for batch in self._epoch(0) for part in chunks(batch, micro_batch_size)]
        return 1 - int(self.lengths.sum()) / sum(len(part) * int(self.lengths[part].max()) for part in parts)

    def _permutation(self, epoch: int) -> np.ndarray:
        """Return the row indices of an epoch in their order, where rows have no lengths."""
        rows = np.arange(self.rows, dtype=np.int32)
        numpy_generator(self.seed, "order", epoch).shuffle(rows)
        return rows

    def _batches(self, epoch: int) -> list[np.ndarray]:
        """Return the batches of an epoch, where rows have lengths."""
        assert self.lengths is not None
        generator = numpy_generator(self.seed, "order", epoch)
        rows = generator.permutation(self.rows)
        pools = chunks(rows, BATCHES_PER_POOL * self.batch_size)
        rows = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in pools])
        batches = chunks(rows, self.batch_size)
        return [batches[place] for place in generator.permutation(len(batches))]
