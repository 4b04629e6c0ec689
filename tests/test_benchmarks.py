"""What the benchmarks print and write: ratios, turns, the page. Nothing here is timed."""

import json

import pytest

from benchmarks.__main__ import page
from benchmarks.side_by_side import Row, take_turns, tell

FAST = Row("steps", "tokens/s", 30.0, {"slow 1.0": 10.0, "quick 2.0": 20.0}, goal="1.3 x", limit="memory")
SMALL = Row("memory", "MB", 50.0, {"book": 100.0}, more_is_better=False)
ALONE = Row("alone", "MB/s", 5.0, {})


@pytest.mark.parametrize(
    ("row", "best", "ratio"), [(FAST, "quick 2.0", 1.5), (SMALL, "book", 2.0), (ALONE, None, None)]
)
def test_the_ratio_is_to_the_best_peer_and_above_one_is_better(row: Row, best: str | None, ratio: float | None) -> None:
    assert (row.best_peer, row.ratio) == (best, ratio)


def test_all_take_turns_after_a_round_to_warm_up() -> None:
    order: list[str] = []
    seconds = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b"] * 3
    assert set(seconds) == {"a", "b"}


def test_the_last_line_holds_the_rows(capsys: pytest.CaptureFixture) -> None:
    tell([FAST, ALONE])
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [Row(**row) for row in rows] == [FAST, ALONE]


def test_the_page_has_a_line_for_each_row_what_binds_it_and_the_commands() -> None:
    text = page([FAST, SMALL, ALONE], [["training", "gpt2"]], 120.0)
    assert "| steps | tokens/s | 30 | 20 (quick 2.0) | 1.50 | 1.3 x |" in text
    assert "| alone | MB/s | 5 |  |  |  |" in text
    assert "- steps: ours 30, slow 1.0 10, quick 2.0 20; memory" in text
    assert "python -m benchmarks.training gpt2" in text
    assert "2 minutes" in text
