"""A training whose third loss is not a number."""

import math
from dataclasses import replace

import pytest
from tiny import equal_bits, language_task, tiny_gpt, training, weights
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.model.transformer import LanguageModel
from llmcore.tasks.language import LanguageTask
from llmcore.tasks.next_token import TokenBatch
from llmcore.train.compute import Compute
from llmcore.train.history import History
from llmcore.train.loop import fit
from llmcore.train.optimizer import make_optimizer
from llmcore.train.step import train_step


class Broken(LanguageTask):
    """Its loss is not a number in the third step of one micro-batch, and only there."""

    losses = 0

    def loss_sum(self, model: LanguageModel, batch: TokenBatch) -> Tensor:
        self.losses += 1
        loss = super().loss_sum(model, batch)
        return loss * math.nan if self.losses == 3 else loss


def check_that_no_weight_changes(compute: Compute, optimizer: str) -> None:
    """Check, where losses are read late: the weights stay those of the second step, though a fourth was under way."""
    device = compute.device
    task, model = language_task(device=device), tiny_gpt().to(device)
    task.__class__ = Broken
    history = History()
    with pytest.raises(UserError, match=r"^training: .* loss nan, .* at step 3; lower lr$"):
        fit(model, task, training(optimizer=optimizer), seed=0, compute=compute, callback=history)
    assert isinstance(task, Broken)
    assert task.losses == 4
    assert [row["step"] for row in history.steps] == [1, 2]
    expected, other = tiny_gpt().to(device), language_task(device=device)
    optimizing = make_optimizer(expected, training(optimizer=optimizer))
    for step in range(2):
        how = {"lr": 1e-2, "grad_clip": 1.0, "seed": 0, "compute": replace(compute, reads_late=False)}
        train_step(expected, other, optimizing, step, **how)
    assert equal_bits(weights(model), weights(expected))
