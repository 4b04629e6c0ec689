"""Upper limits of what decoding and training cost, counted in operations and tensor elements instead of seconds."""

from collections import Counter
from typing import Any

import pytest
from tiny import CPU, generation, language_task, tiny_gpt, training
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llmcore.base import matmul
from llmcore.generate.decode import decode
from llmcore.train.optimizer import make_optimizer
from llmcore.train.step import train_step


class Counted(TorchDispatchMode):
    """Counts operations, and the elements of the tensors that they create."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations[str(func)] += 1
        given = {tensor.untyped_storage().data_ptr() for tensor in args if isinstance(tensor, Tensor)}
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.numbers += tensor.numel()
        return out


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode as `llmcore generate` does; only stages have portable numerics."""
    monkeypatch.setattr(matmul, "_PORTABLE", False)


def operations_of_decoding(new_tokens: int, prompts: list[list[int]]) -> int:
    with Counted() as counted:
        decode(tiny_gpt(), prompts, generation(new_tokens), stop_ids=())
    return counted.operations.total()


@pytest.mark.parametrize(
    ("prompts", "limit"),
    [
        # Counted: 71, 9 of them matmuls. An operation costs microseconds however small it is, and a small model spends
        # most of its time on that. Five more per layer exceed the limit.
        ([[1, 2, 3]], 80),
        # Three prompts of different lengths. Counted: 84, the same once for the batch, its mask, and the choice of each
        # row's token. Reading the rows one after the other would take three times 71.
        ([[1], [2, 3], [4, 5, 6]], 100),
    ],
)
@pytest.mark.usefixtures("native")
def test_the_operations_of_a_decoded_token_stay_below_a_limit(prompts: list[list[int]], limit: int) -> None:
    more = operations_of_decoding(9, prompts) - operations_of_decoding(8, prompts)
    assert more <= limit


def test_the_tensors_that_a_training_step_creates_stay_below_a_limit() -> None:
    """Per token, beside three copies of the parameters: the gradients, and what clipping makes of them.

    Counted: 1,522 elements per token, for two layers of width 16, with the attention of portable numerics. One more
    copy of the MLPs' hidden states, 128 elements, exceeds the limit.
    """
    model = tiny_gpt()
    task = language_task(4, 4)
    optimizer = make_optimizer(model, training())
    train_step(model, task, optimizer, 0, lr=0.1, grad_clip=1.0, seed=0, compute=CPU)  # creates the optimizer's state
    with Counted() as counted:
        train_step(model, task, optimizer, 1, lr=0.1, grad_clip=1.0, seed=0, compute=CPU)
    [batch] = task.loader.micro_batches(1)
    per_token = (counted.numbers - 3 * sum(p.numel() for p in model.parameters())) / batch.inputs.numel()
    assert per_token < 1600
