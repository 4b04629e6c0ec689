"""The learning rate at the steps where its formula can be checked by hand."""

import math

import pytest

from llmcore.train.schedule import lr_at


def lr(step: int, total_steps: int = 110, warmup_steps: int = 10) -> float:
    return lr_at(step, total_steps, lr=1.0, min_lr=0.1, warmup_steps=warmup_steps)


def test_the_learning_rate_rises_linearly_to_its_peak() -> None:
    assert [lr(step) for step in range(10)] == [(step + 1) / 10 for step in range(10)]


def test_the_learning_rate_falls_along_half_a_cosine() -> None:
    assert lr(10) == 1.0
    assert lr(109) == pytest.approx(0.1, abs=1e-15)
    for step in (10, 30, 77, 109):
        assert lr(step) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * (step - 10) / 99)) / 2)
    assert lr_at(11, 13, lr=1.0, min_lr=0.1, warmup_steps=10) == pytest.approx(0.55)  # the middle


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    assert lr(0, warmup_steps=0) == 1.0


def test_with_equal_lr_and_min_lr_it_is_constant() -> None:
    assert {lr_at(step, 20, lr=4e-4, min_lr=4e-4, warmup_steps=0) for step in range(20)} == {4e-4}


@pytest.mark.parametrize("total_steps", [1, 2, 9, 10, 11, 12])
def test_in_short_trainings_the_rate_stays_between_zero_and_the_peak(total_steps: int) -> None:
    assert all(0 < lr(step, total_steps) <= 1.0 for step in range(total_steps))
