"""The throughput of a training is reported every few seconds, without the time of evaluations."""

import pytest

from llmcore.run import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_rate_is_returned_when_its_interval_is_over(clock: list[float]) -> None:
    throughput = progress.Throughput()
    rates = []
    for _ in range(6):
        clock[0] += progress.RATE_SECONDS / 2
        rates.append(throughput.after_step(30))
    assert rates == [None, 60 / progress.RATE_SECONDS] * 3


def test_time_of_an_evaluation_does_not_count(clock: list[float]) -> None:
    throughput = progress.Throughput()
    clock[0] += 50.0
    throughput.skip()
    clock[0] += progress.RATE_SECONDS
    assert throughput.after_step(10) == 10 / progress.RATE_SECONDS
