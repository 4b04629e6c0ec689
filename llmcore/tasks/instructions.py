"""Instruction tuning: predict the answer that follows a prompt. Book: chapter 7."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llmcore.data.order import Order, chunks
from llmcore.data.windows import IGNORED
from llmcore.model.gpt import GPT
from llmcore.tasks.next_token import TokenBatch, mean_loss, next_token_loss
from llmcore.tasks.prompt import prompt_parts


@dataclass(frozen=True)
class Example:
    """One instruction as inputs and targets of equal length; masked targets are IGNORED."""

    inputs: np.ndarray
    targets: np.ndarray
    truncated: bool

    @property
    def supervised(self) -> int:
        return int((self.targets != IGNORED).sum())


def make_example(
    row: dict[str, str], encode: Callable[[str], list[int]], *, end_of_text: int, mask: str, max_tokens: int
) -> Example:
    """Encode prompt, answer and end-of-text, and mask what is not to be learned.

    `mask` is `none`, `instruction` (the preamble and the instruction give no loss) or `instruction+input`
    (the whole prompt gives none). End-of-text is a target, so the model learns to stop. Rows are cut to
    `max_tokens` inputs.
    """
    asked, given, heading = (encode(part) for part in prompt_parts(row["instruction"], row["input"]))
    ids = [*asked, *given, *heading, *encode(row["output"]), end_of_text]
    masked = {"none": 0, "instruction": len(asked), "instruction+input": len(asked) + len(given) + len(heading)}[mask]
    inputs = np.array(ids[:-1], np.int64)[:max_tokens]
    targets = np.array(ids[1:], np.int64)[:max_tokens]
    targets[: max(0, masked - 1)] = IGNORED  # the last masked token is the input that predicts the first free one
    return Example(inputs, targets, truncated=len(ids) - 1 > max_tokens)


class InstructionTask:
    """Train on examples of similar length together; validate by the loss on supervised targets."""

    def __init__(
        self,
        train: Sequence[Example],
        val: Sequence[Example],
        *,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        pad_id: int,
        device: torch.device,
    ):
        self.train, self.val, self.pad_id, self.device = train, val, pad_id, device
        self.micro_batch_size = micro_batch_size
        self.order = Order(len(train), batch_size, seed, np.array([len(row.inputs) for row in train]))
        self.steps_per_epoch = self.order.steps_per_epoch

    def micro_batches(self, step: int) -> list[TokenBatch]:
        return self._batches([self.train[row] for row in self.order.batch(step)])

    def loss_sum(self, model: GPT, batch: TokenBatch) -> Tensor:
        return next_token_loss(model, batch)

    def evaluate(self, model: GPT) -> dict[str, float]:
        """Return the mean loss over the supervised validation targets."""
        loss, _ = mean_loss(model, self._batches(sorted(self.val, key=lambda row: len(row.inputs))))
        return {"loss": loss}

    def _batches(self, rows: Sequence[Example]) -> list[TokenBatch]:
        return [self._batch(part) for part in chunks(rows, self.micro_batch_size)]

    def _batch(self, rows: Sequence[Example]) -> TokenBatch:
        width = max(len(row.inputs) for row in rows)
        inputs = np.full((len(rows), width), self.pad_id)  # (B, T)
        targets = np.full((len(rows), width), IGNORED)
        for number, row in enumerate(rows):
            inputs[number, : len(row.inputs)] = row.inputs
            targets[number, : len(row.targets)] = row.targets
        return TokenBatch.of(inputs, targets, self.device)
