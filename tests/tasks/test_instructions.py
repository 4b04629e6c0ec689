"""What gives loss in instruction tuning, token by token."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tiny import CPU, END_OF_TEXT, VOCAB, tiny_gpt
from torch.nn import functional as F

from llmcore.data.windows import IGNORE_INDEX
from llmcore.tasks.instructions import Example, InstructionTask, Packed, log_likelihoods, make_example, pack, usable
from llmcore.tokenizer.bpe import BytePairTokenizer

BYTES = BytePairTokenizer([])  # one id per byte, so that ids can be read
PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
END = "<|endoftext|>"
WITHOUT_INPUT = {"instruction": "Say hi.", "input": "", "output": "Hi!"}
WITH_INPUT = {"instruction": "Repeat.", "input": "Moon", "output": "Moon."}


def example(row: dict[str, str], mask: str, max_tokens: int = 1000, form: str = "alpaca") -> Example:
    return make_example(row, BYTES, form=form, mask=mask, max_tokens=max_tokens)


def learned(row: dict[str, str], mask: str, form: str = "alpaca") -> str:
    return BYTES.decode(target for target in example(row, mask, form=form).targets if target != IGNORE_INDEX)


def n_ids(text: str) -> int:
    return len(text) - len(END) + 1


@pytest.mark.parametrize(
    ("row", "mask", "text"),
    [
        (WITHOUT_INPUT, "none", PREAMBLE[1:] + "\n\n### Instruction:\nSay hi.\n\n### Response:\nHi!" + END),
        (WITHOUT_INPUT, "instruction", "\n\n### Response:\nHi!" + END),
        (WITHOUT_INPUT, "instruction+input", "Hi!" + END),
        (
            WITH_INPUT,
            "none",
            PREAMBLE[1:] + "\n\n### Instruction:\nRepeat.\n\n### Input:\nMoon\n\n### Response:\nMoon." + END,
        ),
        (WITH_INPUT, "instruction", "\n\n### Input:\nMoon\n\n### Response:\nMoon." + END),
        (WITH_INPUT, "instruction+input", "Moon." + END),
    ],
)
def test_a_mask_leaves_exactly_this_text_as_targets(row: dict[str, str], mask: str, text: str) -> None:
    assert learned(row, mask) == text
    assert example(row, mask).n_targets == n_ids(text)


@pytest.mark.parametrize(
    ("row", "mask", "text"),
    [
        (WITHOUT_INPUT, "none", "|user|>\nSay hi.\n<|assistant|>:\nHi!" + END),
        (WITHOUT_INPUT, "instruction", "\n<|assistant|>:\nHi!" + END),
        (WITHOUT_INPUT, "instruction+input", "Hi!" + END),
        (WITH_INPUT, "none", "|user|>\nRepeat.\nMoon\n<|assistant|>:\nMoon." + END),
        (WITH_INPUT, "instruction", "\nMoon\n<|assistant|>:\nMoon." + END),
        (WITH_INPUT, "instruction+input", "Moon." + END),
    ],
)
def test_a_mask_of_the_phi3_form_leaves_exactly_this_text_as_targets(row: dict[str, str], mask: str, text: str) -> None:
    assert learned(row, mask, "phi3") == text
    made = example(row, mask, form="phi3")
    kept = np.flatnonzero(made.targets != IGNORE_INDEX)
    assert kept.tolist() == list(range(len(made.targets) - n_ids(text), len(made.targets)))  # one run, to the end


@pytest.mark.parametrize("mask", ["none", "instruction", "instruction+input"])
def test_each_target_is_the_next_input(mask: str) -> None:
    made = example(WITH_INPUT, mask)
    assert len(made.inputs) == len(made.targets)
    kept = made.targets[:-1] != IGNORE_INDEX
    assert (made.targets[:-1] == made.inputs[1:])[kept].all()
    assert made.targets[-1] == BYTES.end_of_text


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
    assert example(WITH_INPUT, "instruction+input", 50).n_targets == 0


def test_with_a_real_tokenizer_the_answer_and_end_of_text_are_learned(tokenizer: BytePairTokenizer) -> None:
    end = tokenizer.end_of_text
    made = make_example(WITH_INPUT, tokenizer, form="alpaca", mask="instruction+input", max_tokens=1000)
    kept = made.targets[made.targets != IGNORE_INDEX].tolist()
    assert (tokenizer.decode(kept[:-1]), kept[-1]) == ("Moon.", end)


ROWS = [
    Example(np.array([1, 2, 3, 4]), np.array([IGNORE_INDEX, 3, 4, END_OF_TEXT]), length=0),
    Example(np.array([5, 6]), np.array([6, END_OF_TEXT]), length=0),
    Example(np.array([7, 8, 9]), np.array([IGNORE_INDEX, IGNORE_INDEX, 10]), length=9),
]


def task(micro_batch_size: int, rows: Sequence[Example | Packed] = ROWS) -> InstructionTask:
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
    [batch] = task(3).loader.micro_batches(0)
    found = {tuple(row) for row in torch.cat([batch.inputs, batch.targets], dim=1).tolist()}
    pad, no = END_OF_TEXT, IGNORE_INDEX
    assert found == {
        (1, 2, 3, 4, no, 3, 4, END_OF_TEXT),
        (5, 6, pad, pad, 6, END_OF_TEXT, no, no),
        (7, 8, 9, pad, no, no, 10, no),
    }
    assert batch.n_targets == 6
    assert batch.n_tokens == 9


def test_validation_loss_is_the_mean_over_the_targets_of_all_rows() -> None:
    """The mean of the rows' means would give the tokens of short answers more weight."""
    model = tiny_gpt().eval()
    logits = [model(torch.from_numpy(row.inputs)[None])[0] for row in ROWS]  # (T, V) each
    targets = torch.cat([torch.from_numpy(row.targets) for row in ROWS])
    expected = F.cross_entropy(torch.cat(logits), targets, ignore_index=IGNORE_INDEX).item()
    assert targets.max() < VOCAB
    for micro_batch_size in (1, 2, 3):
        assert task(micro_batch_size).evaluate(model)["loss"] == pytest.approx(expected, rel=1e-6)


def test_too_long_rows_are_dropped_on_request() -> None:
    whole, cut = example(WITH_INPUT, "none"), example(WITH_INPUT, "none", max_tokens=100)
    unanswered = example(WITH_INPUT, "instruction+input", max_tokens=50)
    assert usable([whole, cut, unanswered], "truncate") == [whole, cut]
    assert usable([whole, cut, unanswered], "drop") == [whole]


def random_examples(count: int, longest: int = 8, seed: int = 0) -> list[Example]:
    generator = np.random.default_rng(seed)
    made = []
    for length in generator.integers(1, longest + 1, count).tolist():
        ids = generator.integers(0, VOCAB, length + 1)
        targets = ids[1:].copy()
        targets[: length // 2] = IGNORE_INDEX
        made.append(Example(ids[:-1], targets, length))
    return made


def test_packing_keeps_every_example_whole_and_fills_rows() -> None:
    examples = random_examples(200)
    packed = pack(examples, 12, seed=0)
    assert max(len(row.inputs) for row in packed) <= 12
    pieces = [row.inputs[row.segments == number] for row in packed for number in range(row.segments.max() + 1)]
    assert sorted(tuple(piece) for piece in pieces) == sorted(tuple(row.inputs) for row in examples)
    assert len(packed) <= 1.1 * sum(len(row.inputs) for row in examples) / 12


@pytest.mark.parametrize("micro_batch_size", [1, 4])
def test_packing_changes_neither_loss_nor_gradient(micro_batch_size: int) -> None:
    examples = random_examples(30)

    def learn(rows: Sequence[Example | Packed]) -> tuple[float, torch.Tensor]:
        model = tiny_gpt()
        learning = task(micro_batch_size, rows)
        loss = torch.stack([learning.loss_sum(model, batch) for batch in learning.loader.micro_batches(0)]).sum()
        loss.backward()
        return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    (packed, packed_gradient), (single, gradient) = learn(pack(examples, 12, seed=0)), learn(examples)
    assert packed == pytest.approx(single, rel=1e-5)
    torch.testing.assert_close(packed_gradient, gradient, rtol=1e-5, atol=1e-4)


def test_other_texts_in_a_packed_row_change_no_hidden_state() -> None:
    """Other texts beside it, another place in the row, the same hidden states."""
    model = tiny_gpt().eval()
    first, second, third = random_examples(3, longest=4, seed=1)

    def states(examples: list[Example], number: int) -> torch.Tensor:
        row = Packed(examples)
        ids, segments = torch.from_numpy(row.inputs)[None], torch.from_numpy(row.segments)[None]
        return model.body(ids, segments=segments)[0, torch.from_numpy(row.segments == number)]

    torch.testing.assert_close(states([first, second, third], 1), states([third, second], 1), rtol=1e-5, atol=1e-6)
    alone = model.body(torch.from_numpy(second.inputs)[None])[0]
    torch.testing.assert_close(states([first, second], 1), alone, rtol=1e-5, atol=1e-6)


def test_without_segments_other_texts_in_the_row_change_the_hidden_states() -> None:
    """So the test above can fail."""
    model = tiny_gpt().eval()
    first, second = random_examples(2, longest=4, seed=1)
    ids = torch.from_numpy(Packed([first, second]).inputs)[None]
    alone = model.body(torch.from_numpy(second.inputs)[None])[0]
    assert (model.body(ids)[0, len(first.inputs) :] - alone).abs().max() > 1e-3


@pytest.mark.parametrize("most_logits_bytes", [1, 1 << 27])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_log_likelihoods_are_sums_over_the_targets_of_a_row(
    batch_size: int, most_logits_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmcore.tasks.next_token.MAX_LOGITS_BYTES", most_logits_bytes)
    model = tiny_gpt().eval()
    expected = []
    for row in ROWS:
        logits = model(torch.from_numpy(row.inputs)[None])[0].log_softmax(-1)
        kept = np.flatnonzero(row.targets != IGNORE_INDEX)
        expected.append(logits[kept, row.targets[kept]].sum().item())
    found = log_likelihoods(model, ROWS, batch_size=batch_size, pad_id=END_OF_TEXT)
    assert found == pytest.approx(expected, rel=1e-5)
