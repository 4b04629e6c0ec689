"""What must not grow unseen, counted: tensors and operations, not seconds."""

from collections import Counter
from typing import Any

import pytest
from tiny import CPU, language_task, tiny_gpt, training
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from llmcore.generate.decode import decode
from llmcore.generate.sampling import GREEDY
from llmcore.train.loop import train_step
from llmcore.train.optimizer import make_optimizer


class Counted(TorchDispatchMode):
    """Counts operations, and the numbers in the tensors that they make anew."""

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


def operations_of_decoding(new_tokens: int, prompts: list[list[int]]) -> int:
    with Counted() as counted:
        decode(tiny_gpt(), prompts, max_new_tokens=new_tokens, sampling=GREEDY, seed=0, stop_id=None)
    return counted.operations.total()


@pytest.mark.parametrize(("prompts", "most"), [([[1, 2, 3]], 85), ([[1], [2, 3], [4, 5, 6]], 114)])
def test_a_decoded_token_takes_few_operations(prompts: list[list[int]], most: int) -> None:
    """Of two layers; texts of different length cost those of one text and a mask, not those of each."""
    more = operations_of_decoding(9, prompts) - operations_of_decoding(8, prompts)
    assert more <= most


def test_a_training_step_makes_few_numbers() -> None:
    model, task = tiny_gpt(), language_task(4, 4)
    optimizer = make_optimizer(model, training())
    train_step(model, task, optimizer, 0, lr=0.1, grad_clip=1.0, seed=0, compute=CPU)  # makes the optimizer's state
    with Counted() as counted:
        train_step(model, task, optimizer, 1, lr=0.1, grad_clip=1.0, seed=0, compute=CPU)
    [batch] = task.loader.micro_batches(1)
    per_token = (counted.numbers - 3 * sum(p.numel() for p in model.parameters())) / batch.inputs.numel()
    assert per_token < 1100  # two layers of width 16: what the backward pass needs, forward and backward
