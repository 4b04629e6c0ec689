"""Each instruction has one correct answer, and the test asks for combinations that training never contains."""

from collections import Counter, defaultdict

import pytest

from llmcore.data.world.instructions import QUESTION_TYPES, Instruction, write_instructions
from llmcore.data.world.lexicon import NUMBERS, OPPOSITE_OF


@pytest.fixture(scope="module")
def rows() -> list[Instruction]:
    return write_instructions(3000, seed=3)


def of_kind(rows: list[Instruction], kind: str) -> list[Instruction]:
    return [row for row in rows if row.kind == kind]


def test_every_kind_is_in_every_split(rows: list[Instruction]) -> None:
    assert {(row.kind, row.split) for row in rows} == {(k, s) for k in QUESTION_TYPES for s in ("train", "val", "test")}


def test_a_question_has_one_answer_and_one_split(rows: list[Instruction]) -> None:
    assert len({(row.instruction, row.input) for row in rows}) == len(rows)
    splits: dict[tuple[str, str], set[str]] = defaultdict(set)
    for seed in (3, 4):
        for row in write_instructions(3000, seed):
            splits[row.instruction, row.input].add(row.split)
    assert all(len(names) == 1 or names == {"test"} for names in splits.values())


def test_the_last_phrasing_of_a_kind_is_only_in_the_test(rows: list[Instruction]) -> None:
    for kind in QUESTION_TYPES:
        first_words = QUESTION_TYPES[kind].ask[-1].split("{")[0]
        splits = Counter(row.split for row in of_kind(rows, kind) if row.instruction.startswith(first_words))
        assert set(splits) == {"test"}


def test_sums_are_correct(rows: list[Instruction]) -> None:
    for row in of_kind(rows, "sum"):
        numbers = [NUMBERS.index(word) + 1 for word in row.input.strip(".").split() if word in NUMBERS]
        assert NUMBERS[sum(numbers) - 1] == row.output


def test_opposites_are_correct(rows: list[Instruction]) -> None:
    for row in of_kind(rows, "opposite"):
        asked = OPPOSITE_OF[row.output]
        assert row.instruction.rstrip("?.").split()[-1] == asked
        assert row.input == "" or asked in row.input


def test_only_opposites_are_asked_without_an_input(rows: list[Instruction]) -> None:
    assert {row.kind for row in rows if row.input == ""} == {"opposite"}
    bare = Counter(row.split for row in of_kind(rows, "opposite") if row.input == "")
    assert bare["train"] > 60
    assert bare["test"] > 10


def test_training_contains_every_opposite_that_the_test_asks_for(rows: list[Instruction]) -> None:
    outputs = {row.split: {one.output for one in of_kind(rows, "opposite") if one.split == row.split} for row in rows}
    assert outputs["test"] | outputs["val"] <= outputs["train"] == set(OPPOSITE_OF)


def test_words_put_in_order_are_the_words_given(rows: list[Instruction]) -> None:
    for row in of_kind(rows, "word order"):
        assert sorted(row.output.removesuffix(".").split()) == sorted(row.input.split())


@pytest.mark.parametrize("kind", ["who has", "colour", "where", "given", "to do"])
def test_answers_are_part_of_the_input(rows: list[Instruction], kind: str) -> None:
    assert all(row.output in row.input for row in of_kind(rows, kind))


def test_the_most_frequent_answer_of_a_kind_is_rarely_correct(rows: list[Instruction]) -> None:
    likely = {
        kind: Counter(r.output for r in of_kind(rows, kind) if r.split == "train").most_common(1)
        for kind in QUESTION_TYPES
    }
    test = [row for row in rows if row.split == "test"]
    assert sum(row.output == likely[row.kind][0][0] for row in test) / len(test) < 0.2


def test_answers_are_short_and_rows_are_checkable(rows: list[Instruction]) -> None:
    assert all(row.checkable and 1 <= len(row.output.split()) <= 6 for row in rows)


def test_rows_depend_on_the_seed_alone() -> None:
    assert write_instructions(50, seed=1) == write_instructions(50, seed=1)
    assert write_instructions(50, seed=1) != write_instructions(50, seed=2)
