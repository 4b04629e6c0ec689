"""The throughput of a training is reported every few seconds, without the time of evaluations."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from llmcore.run import progress
from llmcore.run.progress import ProgressReporter
from llmcore.tracking.tracker import Content, NullTracker, OtherRun
from llmcore.train.history import History
from llmcore.train.step import StepResult


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
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


class RecordingTracker(NullTracker):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int | None, dict[str, float]]] = []
        self.artifacts: dict[str, object] = {}

    def log_metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        self.metrics.append((step, dict(values)))

    def log_artifact(self, name: str, content: Content, run: OtherRun | None = None) -> None:
        self.artifacts[name] = content


@pytest.fixture
def history() -> History:
    """Two steps and an evaluation, with the text that was generated then."""
    history = History()
    for step in (1, 2):
        history.on_step_end(step, StepResult(loss=1 / step, lr=0.1, grad_norm=2.0, n_tokens=9, n_targets=8))
    history.on_evaluate(2, {"val/loss": 0.7})
    history.samples[2] = "Mia and Tom"
    return history


def test_resumed_training_sends_what_came_before_and_prints_the_step(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = RecordingTracker()
    with ProgressReporter("pretrain", 9, history, tracker, tables=tmp_path, progress=False) as reporter:
        reporter.on_resume(2)
    rest = {"train/lr": 0.1, "train/grad_norm": 2.0}
    steps = [(step, {"train/loss": 1 / step, **rest}) for step in (1, 2)]
    assert tracker.metrics == [*steps, (2, {"val/loss": 0.7})]
    assert tracker.artifacts == {"samples/step-000002.txt": "Mia and Tom"}
    assert capsys.readouterr().err == "pretrain: resumes after step 2, from its last checkpoint\n"
