"""The view of a batch marks the tokens that give loss."""

import torch
from tiny import CPU, END_OF_TEXT

from llmcore.config.read import read_params
from llmcore.report.batch import batch_text
from llmcore.tasks import classification, instructions
from llmcore.tasks.batch_view import TARGET
from llmcore.tasks.classification import ClassificationTask, LabelledText
from llmcore.tasks.instructions import instruction_task
from llmcore.tokenizer.bpe import BytePairTokenizer

ROWS = [
    {"instruction": "Say hi.", "input": "", "output": "Hi!"},
    {"instruction": "Repeat.", "input": "Moon", "output": "Moon."},
]


def shown(tokenizer: BytePairTokenizer, **changes: object) -> list[str]:
    """The rows of the first batch with plain marks, shorter ones first."""
    section = read_params().instruct.model_copy(update={"prompt": "phi3", "batch_size": 2, "packing": False} | changes)
    task, _ = instruction_task(section, {"train": ROWS, "val": ROWS}, tokenizer, seed=0, device=torch.device("cpu"))
    text = batch_text(instructions.view_batch(task, 0, tokenizer.decode), colour=False)
    return sorted(part.partition("\n")[2] for part in text.split("--- row ")[1:])


def test_the_answer_is_marked_as_learned_and_padding_is_counted(tokenizer: BytePairTokenizer) -> None:
    moon, hi = shown(tokenizer, mask="instruction+input")
    assert moon.startswith("<|user|>\nRepeat.\nMoon\n<|assistant|>:\n{+Moon.<|endoftext|>+}")
    assert hi.startswith("<|user|>\nSay hi.\n<|assistant|>:\n{+Hi!<|endoftext|>+}(")
    assert " padding)" in hi


def test_without_a_mask_every_token_but_the_first_is_learned(tokenizer: BytePairTokenizer) -> None:
    moon, _ = shown(tokenizer, mask="none")
    first = tokenizer.decode(tokenizer.encode("<|user|>")[:1])
    assert moon.startswith(first + "{+")
    assert moon.partition("\n---")[0].count("{+") == 1


def test_a_packed_row_shows_both_texts_whole(tokenizer: BytePairTokenizer) -> None:
    [row] = shown(tokenizer, mask="instruction+input", packing=True)
    assert "{+Hi!<|endoftext|>+}" in row
    assert "{+Moon.<|endoftext|>+}" in row
    assert row.count("<|user|>") == 2
    assert "padding)" not in row.partition("---")[0]


def test_a_classifier_has_its_target_at_the_token_that_is_read(tokenizer: BytePairTokenizer) -> None:
    rows = [LabelledText([1, 2, 3], 1), LabelledText([4], 0)]
    for pad_to, expected in ((None, ["12{+3+}", "{+4+}(2 padding)"]), (4, ["123{+15+}", "4(2 padding){+15+}"])):
        task = ClassificationTask(
            rows, rows, batch_size=2, micro_batch_size=2, seed=0, pad_id=END_OF_TEXT, pad_to=pad_to, device=CPU.device
        )
        found = classification.view_batch(task, 0, lambda ids: str(ids[0]), ["ham", "spam"])
        text = batch_text(found, colour=False)
        assert all(f"--- {label}\n{row}" in text for label, row in zip(("spam", "ham"), expected, strict=True))


def test_colours_replace_marks_and_control_characters_are_removed() -> None:
    rows = [("row", [("a\x1b[2J", "masked"), ("b", TARGET), ("", "padding")])]
    text = batch_text(rows, colour=True)
    assert "{+" not in text
    assert "\x1b[2J" not in text
    assert "\x1b[30;42mb\x1b[0m" in text
