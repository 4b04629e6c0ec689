"""The order of training rows: the rows of a step's batch depend on (seed, step) alone.

So a resumed training needs no iterator state, and another epoch changes none of the earlier ones.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from llmcore.base.containers import chunks
from llmcore.base.seeds import derive, numpy_generator
from llmcore.data.permutation import permute

Draw = Callable[[np.ndarray, int], np.ndarray]

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
    """Every row once per epoch, in a new random order in each epoch; the cost does not grow with the number of rows.

    An epoch is a random permutation of the rows, cut into pools of `BATCHES_PER_POOL` batches. With `lengths`, the
    rows of a pool are sorted by length, so that rows of similar length share a batch, which saves padding. Then the
    batches of the pool are shuffled (as by torchtext's BucketIterator): each pool is a random sample of the rows, so
    short and long batches alternate at random through the whole epoch, and successive steps share a pool.

    `draw`, given places of the permutation and the epoch, returns the rows there, where not every row comes once.
    """

    def __init__(
        self, rows: int, batch_size: int, seed: int, lengths: np.ndarray | None = None, draw: Draw | None = None
    ):
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.lengths = lengths
        self.draw = draw
        self.steps_per_epoch = -(-rows // batch_size)
        self._pool = lru_cache(maxsize=2)(self._batches)

    def batch(self, step: int) -> np.ndarray:
        """Return the row indices of `step` (0 is the first); one batch of an epoch's last pool may be smaller."""
        epoch, place = divmod(step, self.steps_per_epoch)
        pool, place = divmod(place, BATCHES_PER_POOL)
        return self._pool(epoch, pool)[place]

    def padding_share(self, micro_batch_size: int) -> float:
        """Return the share of the first epoch's tokens that are padding to the longest row of a micro-batch."""
        assert self.lengths is not None
        batches = map(self.batch, range(self.steps_per_epoch))
        parts = (self.lengths[part] for batch in batches for part in chunks(batch, micro_batch_size))
        return 1 - int(self.lengths.sum()) / sum(len(part) * int(part.max()) for part in parts)

    def _batches(self, epoch: int, pool: int) -> list[np.ndarray]:
        """Return the batches of a pool in their order."""
        size = BATCHES_PER_POOL * self.batch_size
        places = np.arange(pool * size, min((pool + 1) * size, self.rows))
        rows = permute(places, self.rows, derive(self.seed, "order", epoch))
        if self.draw:
            rows = self.draw(rows, epoch)
        if self.lengths is not None:
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        batches = chunks(rows, self.batch_size)
        order = permute(np.arange(len(batches)), len(batches), derive(self.seed, "batches", epoch, pool))
        return [batches[number] for number in order]
