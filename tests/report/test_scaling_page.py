"""The page and the picture of a scaling sweep, from given trainings and a given fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmcore.evaluate.scaling_law import EXPONENT_BOUNDS, FittedLaw, Interval, ScalingLaw
from llmcore.report.scaling_figure import scaling_figure
from llmcore.report.scaling_page import scaling_page, verdict

LAW = ScalingLaw(E=0.65, A=2000.0, alpha=0.8, B=3e5, beta=1.0)
FLOOR = 0.63


def fitted(low: float, high: float, law: ScalingLaw = LAW) -> FittedLaw:
    ends = {name: Interval(0.9 * value, 1.1 * value) for name, value in vars(law).items()}
    return FittedLaw(law, ends | {"E": Interval(low, high)}, confidence=0.95)


@pytest.fixture
def rows() -> list[dict[str, float]]:
    """Two sizes that see two amounts of data each; the last loss is 10% above the law."""
    found = [
        {
            "n_layer": 3,
            "n_embd": width,
            "n_head": 4,
            "parameters": parameters,
            "tokens_seen": tokens,
            "flops": 6.0 * parameters * tokens,
            "val/loss": float(LAW.loss(parameters, tokens)),
            "floor_nats_per_token": FLOOR,
        }
        for width, parameters in ((32, 80_000), (64, 240_000))
        for tokens in (500_000, 1_000_000)
    ]
    found[-1]["val/loss"] *= 1.1
    return found


@pytest.mark.parametrize(("interval", "place"), [((0.62, 0.66), "inside"), ((0.64, 0.66), "outside")])
def test_verdict_says_where_the_floor_lies(interval: tuple[float, float], place: str) -> None:
    low, high = interval
    assert verdict(fitted(low, high), FLOOR) == (
        f"**The floor, 0.6300, lies {place} the interval of E**, which is 0.6500 [{low:.4f}, {high:.4f}]: "
        "+3.2% from the truth."
    )


def test_verdict_of_a_wide_interval_says_that_it_says_little() -> None:
    assert verdict(fitted(0.1, 0.66), FLOOR).endswith("The interval is so wide that this says little.")


def test_page_has_the_losses_by_size_and_data_and_the_largest_miss(rows: list[dict[str, float]]) -> None:
    page = scaling_page(rows, fitted(0.62, 0.66), fitted(0.63, 0.63), cost=(6.0, 1.0))
    assert "| blocks x width x heads | N | D = 500,000 | D = 1,000,000 |" in page
    assert f"| 3 x 32 x 4 | 80,000 | {rows[0]['val/loss']:.4f} | {rows[1]['val/loss']:.4f} |" in page
    assert "at most by 9.1%, for 240,000 parameters and 1,000,000 tokens." in page
    assert "| E | 0.65 [0.62, 0.66] | 0.65, fixed |" in page
    assert "largest exponent" not in page


def test_page_marks_an_interval_that_the_bound_of_the_exponents_ends(rows: list[dict[str, float]]) -> None:
    free = fitted(0.62, 0.66)
    free.intervals["beta"] = Interval(0.4, EXPONENT_BOUNDS[1])
    page = scaling_page(rows, free, fitted(0.63, 0.63), cost=(6.0, 1.0))
    assert "[0.4, 5\\*]" in page
    assert "\n\\*: the largest exponent that is tried" in page


def test_budgets_are_spent_in_full_and_no_better_split_is_near(rows: list[dict[str, float]]) -> None:
    page = scaling_page(rows, fitted(0.62, 0.66), fitted(0.63, 0.63), cost=(6.0, 1.0))
    lines = page.split("| FLOPs | N | D | tokens per parameter | loss |\n")[1].splitlines()[1:]
    for line in filter(None, lines):
        flops, n, d, per_parameter, loss = (float(cell.replace(",", "")) for cell in line.strip("| ").split("|"))
        assert flops == pytest.approx(6 * n * d, rel=0.06)  # two digits are shown
        assert per_parameter == pytest.approx(d / n, rel=0.02)
        for other in (0.7 * n, 1.4 * n):
            assert LAW.loss(other, flops / (6 * other)) > loss - 0.001


def test_picture_is_the_same_bytes_for_the_same_values(rows: list[dict[str, float]], tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        scaling_figure(tmp_path / name, rows, LAW, Interval(0.62, 0.66))
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_picture_draws_a_fit_that_ends_below_the_floor(rows: list[dict[str, float]], tmp_path: Path) -> None:
    """Where the fit is below the floor, its distance has no logarithm and is left out."""
    low = ScalingLaw(**vars(LAW) | {"E": 0.1})
    assert np.any(low.loss(240_000, np.array([1e6])) < FLOOR)
    scaling_figure(tmp_path / "low.png", rows, low, Interval(0.05, 0.2))
    assert (tmp_path / "low.png").stat().st_size > 10_000


def test_an_exponent_of_zero_has_no_best_size_and_one_at_the_bound_is_marked(rows: list[dict[str, float]]) -> None:
    flat = replace(LAW, beta=0.0)
    steep = fitted(0.62, 0.66)
    steep.intervals["beta"] = Interval(0.5, 5.0)
    page = scaling_page(rows, steep, fitted(0.63, 0.63, flat), cost=(6.0, 1.0))
    assert "None: an exponent is 0." in page
    assert "| beta | 1 [0.5, 5\\*]" in page
