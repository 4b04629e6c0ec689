"""From rows to the micro-batches of each step, for every task."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from llmcore.base.containers import chunks
from llmcore.data.order import Draw, Order

Batch = TypeVar("Batch")


class Loader(Generic[Batch]):
    """Micro-batches as a pure function of the step; rows of similar length share a batch.

    `collate` makes a batch of row numbers; `draw` is that of Order.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        collate: Callable[[Sequence[int]], Batch],
        *,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        draw: Draw | None = None,
    ):
        self.order = Order(len(lengths), batch_size, seed, np.asarray(lengths), draw)
        self.collate = collate
        self.micro_batch_size = micro_batch_size
        self.n_micro_batches = -(-batch_size // micro_batch_size)

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    @property
    def padding_share(self) -> float:
        """The share of the first epoch's tokens that are padding to the longest row of a micro-batch."""
        return self.order.padding_share(self.micro_batch_size)

    def rows(self, step: int) -> list[int]:
        """Return the row numbers of a step's batch."""
        return [int(row) for row in self.order.batch(step)]

    def micro_batches(self, step: int) -> list[Batch]:
        return [self.collate(part) for part in chunks(self.rows(step), self.micro_batch_size)]
