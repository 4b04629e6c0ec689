"""The curves grow while a training runs, and end as its stage writes them."""

import time
from pathlib import Path

import pytest

from llmcore.base.files import write_csv
from llmcore.run.live_tables import EVALUATIONS_FILE, INTERVAL_SECONDS, STEPS_FILE, LiveTables
from llmcore.train.history import History
from llmcore.train.step import StepResult


def step(history: History, number: int) -> None:
    history.on_step_end(number, StepResult(loss=1 / number, lr=0.1, grad_norm=2.0, n_tokens=9, n_targets=8))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_steps_are_appended_every_few_seconds_in_the_form_of_the_stage(tmp_path: Path, clock: list[float]) -> None:
    history = History()
    step(history, 1)  # before a resumption
    tables = LiveTables(tmp_path / "tables", history)
    lines = []
    for number in range(2, 8):
        clock[0] += INTERVAL_SECONDS / 2
        step(history, number)
        tables.after_step()
        file = tmp_path / "tables" / STEPS_FILE
        lines.append(len(file.read_text().splitlines()) if file.exists() else 0)
    assert lines == [0, 4, 4, 6, 6, 8]
    write_csv(tmp_path / "expected.csv", history.steps)
    assert file.read_bytes() == (tmp_path / "expected.csv").read_bytes()


def test_evaluations_appear_at_once(tmp_path: Path) -> None:
    history = History()
    tables = LiveTables(tmp_path, history)
    history.on_evaluate(3, {"val/loss": 0.5})
    tables.after_evaluation()
    assert (tmp_path / EVALUATIONS_FILE).read_text() == "step,val/loss\n3,0.5\n"


def test_a_folder_that_cannot_be_written_ends_no_training(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("a file")
    history = History()
    tables = LiveTables(tmp_path / "tables", history)
    step(history, 1)
    tables.write_steps()
    tables.after_evaluation()
