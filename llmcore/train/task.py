"""What the loop knows of a task: the rows of each step, their loss, and how good the model is."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor


class Batch(Protocol):
    """Rows that go through the model together."""

    @property
    def n_tokens(self) -> int:
        """The number of input tokens, without padding."""
        ...

    @property
    def n_targets(self) -> int:
        """The number of positions that give loss."""
        ...


BatchT = TypeVar("BatchT", bound=Batch)
LoadedT_co = TypeVar("LoadedT_co", bound=Batch, covariant=True)


class Loader(Protocol[LoadedT_co]):
    """The rows of each step."""

    @property
    def steps_per_epoch(self) -> int: ...

    @property
    def n_micro_batches(self) -> int:
        """The number of micro-batches of a step, a power of two."""
        ...

    def micro_batches(self, step: int) -> Sequence[LoadedT_co]:
        """Return the rows of `step`: a pure function of the step. An epoch's last one may have fewer micro-batches."""
        ...


class Task(Protocol[BatchT]):
    """What is learned: the rows of each step, their loss, and how good the model is."""

    @property
    def loader(self) -> Loader[BatchT]: ...

    def loss_sum(self, model: Any, batch: BatchT) -> Tensor:
        """Return the loss summed over the batch's targets."""
        ...

    def evaluate(self, model: Any) -> dict[str, float]:
        """Return validation metrics, `loss` among them; draws no random number."""
        ...
