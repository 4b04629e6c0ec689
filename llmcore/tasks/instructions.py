"""Instruction tuning: predict the answer that follows a prompt. Book: chapter 7."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from llmcore.base import parallel
from llmcore.base.containers import chunks
from llmcore.base.errors import UserError
from llmcore.data.order import pack_rows
from llmcore.data.windows import IGNORE_INDEX
from llmcore.model.transformer import LanguageModel
from llmcore.tasks.batch_view import MASKED, PADDING, TARGET, Piece, RowView
from llmcore.tasks.loader import Loader
from llmcore.tasks.next_token import TokenBatch, mean_loss, next_token_loss, row_log_likelihoods
from llmcore.tokenizer.prompt import answer_end, encode_prompt
from llmcore.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llmcore.config.params import InstructParams


@dataclass(frozen=True)
class Example:
    """One instruction as inputs and targets of equal length; masked targets are IGNORE_INDEX."""

    inputs: np.ndarray
    targets: np.ndarray
    length: int  # in tokens, before it was cut

    @property
    def truncated(self) -> bool:
        return self.length > len(self.inputs)

    @property
    def n_targets(self) -> int:
        return int((self.targets != IGNORE_INDEX).sum())

    @property
    def segments(self) -> np.ndarray:
        return np.zeros(len(self.inputs), np.int64)


def usable(examples: Sequence[Example], too_long: str) -> list[Example]:
    """Return the examples to learn from: with part of an answer left, and where `too_long` is `drop`, uncut."""
    return [example for example in examples if example.n_targets and not (too_long == "drop" and example.truncated)]


class Packed:
    """Several examples in one row: inputs, targets, and the number of the example that each belongs to."""

    def __init__(self, examples: Sequence[Example]):
        self.inputs = np.concatenate([example.inputs for example in examples])
        self.targets = np.concatenate([example.targets for example in examples])
        self.segments = np.repeat(np.arange(len(examples)), [len(example.inputs) for example in examples])


def make_example(row: Mapping[str, Any], tokenizer: Tokenizer, *, form: str, mask: str, max_tokens: int) -> Example:
    """Encode prompt, answer and the token that ends it, and mask what is not to be learned.

    `form` is that of the prompt. `mask` is `none`, `instruction` (all up to the instruction's end gives no loss)
    or `instruction+input` (the whole prompt gives none). The token that ends an answer is a target, so the model
    learns to stop. Rows are cut to `max_tokens` inputs.
    """
    prompt = encode_prompt(tokenizer, form, row["instruction"], row["input"])
    ids = [*prompt.ids, *tokenizer.encode(row["output"]), answer_end(tokenizer, form)]
    masked = {"none": 0, "instruction": prompt.n_instruction, "instruction+input": len(prompt.ids)}[mask]
    inputs = np.array(ids[:-1], np.int64)[:max_tokens]
    targets = np.array(ids[1:], np.int64)[:max_tokens]
    targets[: max(0, masked - 1)] = IGNORE_INDEX  # the last masked token is the input that predicts the first free one
    return Example(inputs, targets, length=len(ids) - 1)


def pack(examples: Sequence[Example], max_tokens: int, seed: int) -> list[Packed]:
    """Lay examples into rows of at most `max_tokens`; each is in one row whole, and none sees another there."""
    sets = pack_rows([len(example.inputs) for example in examples], max_tokens, seed)
    return [Packed([examples[number] for number in numbers]) for numbers in sets]


class InstructionTask:
    """Train on examples, or on packed rows of them, similar lengths together; validate by the loss on single ones."""

    def __init__(
        self,
        train: Sequence[Example | Packed],
        val: Sequence[Example | Packed],
        *,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        pad_id: int,
        device: torch.device,
    ):
        self.train = train
        self.val = val
        self.pad_id = pad_id
        self.device = device
        self.loader = Loader(
            [len(row.inputs) for row in train],
            lambda rows: collate_examples([train[row] for row in rows], pad_id, device),
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            seed=seed,
        )

    def loss_sum(self, model: LanguageModel, batch: TokenBatch) -> Tensor:
        return next_token_loss(model, batch)

    def evaluate(self, model: LanguageModel) -> dict[str, float]:
        """Return the mean loss over the validation targets."""
        parts = chunks(sorted(self.val, key=lambda row: len(row.inputs)), self.loader.micro_batch_size)
        loss, _ = mean_loss(model, lambda part: collate_examples(part, self.pad_id, self.device), parts)
        return {"loss": loss}


def answer_likelihoods(
    model: LanguageModel, tokenizer: Tokenizer, form: str, rows: Sequence[Mapping[str, str]], *, batch_size: int
) -> list[float]:
    """Return the natural log of the probability that the model gives to each row's `output` and its end.

    Of a row longer than the context, the part that fits counts.
    """
    room = model.config.context_length
    examples = [make_example(row, tokenizer, form=form, mask="instruction+input", max_tokens=room) for row in rows]
    return log_likelihoods(model, examples, batch_size=batch_size, pad_id=tokenizer.pad_id)


def log_likelihoods(model: LanguageModel, examples: Sequence[Example], *, batch_size: int, pad_id: int) -> list[float]:
    """Return the natural log of the probability of each example's targets."""

    def of(part: Sequence[Example]) -> list[float]:
        found: list[float] = row_log_likelihoods(model, collate_examples(part, pad_id, model.device)).tolist()
        return found

    return [likelihood for found in parallel.map_parts(of, chunks(examples, batch_size)) for likelihood in found]


def collate_examples(rows: Sequence[Example | Packed], pad_id: int, device: torch.device) -> TokenBatch:
    """Pad examples on the right to the longest of them; padding gives no loss."""
    width = max(len(row.inputs) for row in rows)
    inputs = np.full((len(rows), width), pad_id)  # (B, T)
    targets = np.full((len(rows), width), IGNORE_INDEX)
    segments = np.full((len(rows), width), -1)
    for number, row in enumerate(rows):
        inputs[number, : len(row.inputs)] = row.inputs
        targets[number, : len(row.targets)] = row.targets
        segments[number, : len(row.segments)] = row.segments
    packed = any(isinstance(row, Packed) for row in rows)
    n_tokens = sum(len(row.inputs) for row in rows)
    return TokenBatch.of(inputs, targets, n_tokens, device, segments if packed else None)


def instruction_task(
    params: "InstructParams",
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    tokenizer: Tokenizer,
    *,
    seed: int,
    device: torch.device,
) -> tuple[InstructionTask, dict[str, list[Example]]]:
    """Return the task of the rows in `train` and `val`, and all of them as examples, those left out too.

    UserError if a split has no row to learn from.
    """
    examples = {
        split: [
            make_example(row, tokenizer, form=params.prompt, mask=params.mask, max_tokens=params.max_tokens)
            for row in rows[split]
        ]
        for split in ("train", "val")
    }
    kept = {split: usable(found, params.too_long) for split, found in examples.items()}
    for split in kept:
        if not kept[split]:
            lengths = sorted(example.length for example in examples[split])
            rule = f"must leave an answer in at least one row of {split}, got {params.max_tokens}"
            raise UserError(f"instruct.max_tokens {rule}; raise it (rows have {lengths[0]} to {lengths[-1]} tokens)")
    task = InstructionTask(
        pack(kept["train"], params.max_tokens, seed) if params.packing else kept["train"],
        kept["val"],
        batch_size=params.batch_size,
        micro_batch_size=params.micro_batch_size,
        seed=seed,
        pad_id=tokenizer.pad_id,
        device=device,
    )
    return task, examples


def instruction_counts(task: InstructionTask, examples: Sequence[Example], too_long: str) -> dict[str, float]:
    """Return what became of the training rows, and the shares of tokens that are padding and that are targets."""
    kept = usable(examples, too_long)
    truncated = sum(example.truncated for example in examples)
    return {
        "train_rows": len(kept),
        "truncated_rows": sum(example.truncated for example in kept),
        "truncated_share": truncated / len(examples),
        "dropped_rows": len(examples) - len(kept),
        "packed_rows": len(task.train),
        "padding_share": task.loader.padding_share,
        "target_share": sum(e.n_targets for e in kept) / sum(len(e.targets) for e in kept),
    }


def view_batch(task: InstructionTask, step: int, decode: Callable[[list[int]], str]) -> list[RowView]:
    """Return the rows of a step's batch; targets are the tokens that the model learns to predict."""
    numbers = task.loader.rows(step)
    rows = [task.train[number] for number in numbers]
    width = max(len(row.inputs) for row in rows)
    return [
        RowView(f"row {number}", _pieces(row, decode) + [Piece("", PADDING)] * (width - len(row.inputs)))
        for number, row in zip(numbers, rows, strict=True)
    ]


def _pieces(row: Example | Packed, decode: Callable[[list[int]], str]) -> list[Piece]:
    """A target is the token after its input: the first input of each text is never one."""
    pieces = []
    for place, (token, target, text) in enumerate(zip(row.inputs, row.targets, row.segments, strict=True)):
        if place == 0 or row.segments[place - 1] != text:
            pieces.append(Piece(decode([int(token)]), MASKED))
        if target != IGNORE_INDEX:
            pieces.append(Piece(decode([int(target)]), TARGET))
        elif place + 1 < len(row.inputs) and row.segments[place + 1] == text:
            pieces.append(Piece(decode([int(row.inputs[place + 1])]), MASKED))
    return pieces
