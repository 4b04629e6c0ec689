"""What gives loss in instruction tuning, token by token."""

import numpy as np
import pytest
import torch
from tiny import CPU, END_OF_TEXT, VOCAB, tiny_gpt
from torch.nn import functional as F

from llmcore.data.windows import IGNORED
from llmcore.tasks.instructions import Example, InstructionTask, make_example
from llmcore.tasks.prompt import PREAMBLE
from llmcore.tokenizer.bpe import Tokenizer

END = 0
WITHOUT_INPUT = {"instruction": "Say hi.", "input": "", "output": "Hi!"}
WITH_INPUT = {"instruction": "Repeat.", "input": "Moon", "output": "Moon."}


def characters(text: str) -> list[int]:
    """One id a character, so that ids can be read."""
    return [ord(character) for character in text]


def example(row: dict[str, str], mask: str, max_tokens: int = 1000) -> Example:
    return make_example(row, characters, end_of_text=END, mask=mask, max_tokens=max_tokens)


def learned(row: dict[str, str], mask: str) -> str:
    return "".join(chr(target) for target in example(row, mask).targets if target != IGNORED)


@pytest.mark.parametrize(
    ("row", "mask", "text"),
    [
        (WITHOUT_INPUT, "none", PREAMBLE[1:] + "\n\n### Instruction:\nSay hi.\n\n### Response:\nHi!\0"),
        (WITHOUT_INPUT, "instruction", "\n\n### Response:\nHi!\0"),
        (WITHOUT_INPUT, "instruction+input", "Hi!\0"),
        (
            WITH_INPUT,
            "none",
            PREAMBLE[1:] + "\n\n### Instruction:\nRepeat.\n\n### Input:\nMoon\n\n### Response:\nMoon.\0",
        ),
        (WITH_INPUT, "instruction", "\n\n### Input:\nMoon\n\n### Response:\nMoon.\0"),
        (WITH_INPUT, "instruction+input", "Moon.\0"),
    ],
)
def test_a_mask_leaves_exactly_this_text(row: dict[str, str], mask: str, text: str) -> None:
    assert learned(row, mask) == text
    assert example(row, mask).supervised == len(text)


@pytest.mark.parametrize("mask", ["none", "instruction", "instruction+input"])
def test_each_target_is_the_next_input(mask: str) -> None:
    made = example(WITH_INPUT, mask)
    assert len(made.inputs) == len(made.targets)
    kept = made.targets[:-1] != IGNORED
    assert (made.targets[:-1] == made.inputs[1:])[kept].all()
    assert made.targets[-1] == END


@pytest.mark.parametrize("mask", ["none", "instruction", "instruction+input"])
def test_long_rows_are_cut_at_the_end(mask: str) -> None:
    whole = example(WITH_INPUT, mask)
    size = len(whole.inputs)
    for max_tokens in (1, 50, size - 1):
        cut = example(WITH_INPUT, mask, max_tokens)
        assert cut.truncated
        assert cut.inputs.tolist() == whole.inputs[:max_tokens].tolist()
        assert cut.targets.tolist() == whole.targets[:max_tokens].tolist()
    assert not example(WITH_INPUT, mask, size).truncated
    assert example(WITH_INPUT, "instruction+input", 50).supervised == 0


def test_with_a_real_tokenizer_the_answer_and_end_of_text_are_learned(tokenizer: Tokenizer) -> None:
    end = tokenizer.end_of_text
    made = make_example(WITH_INPUT, tokenizer.encode, end_of_text=end, mask="instruction+input", max_tokens=1000)
    kept = made.targets[made.targets != IGNORED].tolist()
    assert (tokenizer.decode(kept[:-1]), kept[-1]) == ("Moon.", end)


ROWS = [
    Example(np.array([1, 2, 3, 4]), np.array([IGNORED, 3, 4, END_OF_TEXT]), truncated=False),
    Example(np.array([5, 6]), np.array([6, END_OF_TEXT]), truncated=False),
    Example(np.array([7, 8, 9]), np.array([IGNORED, IGNORED, 10]), truncated=True),
]


def task(micro_batch_size: int, rows: list[Example] = ROWS) -> InstructionTask:
    return InstructionTask(
        rows,
        rows,
        batch_size=len(rows),
        micro_batch_size=micro_batch_size,
        seed=0,
        pad_id=END_OF_TEXT,
        device=CPU.device,
    )


def test_only_padding_is_added_to_the_rows() -> None:
    [batch] = task(3).micro_batches(0)
    found = {tuple(row) for row in torch.cat([batch.inputs, batch.targets], dim=1).tolist()}
    pad, no = END_OF_TEXT, IGNORED
    assert found == {
        (1, 2, 3, 4, no, 3, 4, END_OF_TEXT),
        (5, 6, pad, pad, 6, END_OF_TEXT, no, no),
        (7, 8, 9, pad, no, no, 10, no),
    }
    assert batch.supervised == 6


def test_validation_loss_is_the_mean_over_supervised_targets_of_all_rows() -> None:
    """A mean of row means would weigh the tokens of short answers more."""
    model = tiny_gpt().eval()
    logits = [model(torch.from_numpy(row.inputs)[None])[0] for row in ROWS]  # (T, V) each
    targets = torch.cat([torch.from_numpy(row.targets) for row in ROWS])
    expected = F.cross_entropy(torch.cat(logits), targets, ignore_index=IGNORED).item()
    assert targets.max() < VOCAB
    for micro_batch_size in (1, 2, 3):
        assert task(micro_batch_size).evaluate(model)["loss"] == pytest.approx(expected, rel=1e-6)
