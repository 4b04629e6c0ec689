"""The rate of a training: told every few seconds, without the time of evaluations."""

import pytest

from llmcore.run import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_a_rate_is_told_when_its_interval_is_over(clock: list[float]) -> None:
    rate = progress.Rate()
    told = []
    for _ in range(6):
        clock[0] += progress.RATE_SECONDS / 2
        told.append(rate.after(30))
    assert told == [None, 60 / progress.RATE_SECONDS] * 3


def test_an_evaluation_does_not_count(clock: list[float]) -> None:
    rate = progress.Rate()
    clock[0] += 50.0
    rate.skip()
    clock[0] += progress.RATE_SECONDS
    assert rate.after(10) == 10 / progress.RATE_SECONDS
