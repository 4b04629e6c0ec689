"""Pictures stay readable and bounded: many classes, long trainings, boundaries of tokens."""

import struct
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import matplotlib.axes
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from llmcore.base.files import write_csv
from llmcore.report import figures
from llmcore.report.draw import draw_report
from llmcore.report.drawing import short

MAX_PEAK_BYTES = 150 << 20
MAX_SECONDS = 20  # alone it takes one; a test machine has other work


def size(path: Path) -> tuple[int, int]:
    """Return width and height of a PNG file."""
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return width, height


def drawn_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that collects the texts drawn inside axes."""
    texts: list[str] = []
    draw = matplotlib.axes.Axes.text

    def text(self, x, y, s, *args, **kwargs):
        texts.append(s)
        return draw(self, x, y, s, *args, **kwargs)

    monkeypatch.setattr(matplotlib.axes.Axes, "text", text)
    return texts


def confusion(n_classes: int) -> np.ndarray:
    counts = np.diag(np.full(n_classes, 20))
    counts[3, 5] = 7
    counts[8, 2] = 4
    return counts


@pytest.mark.parametrize("n_classes", [21, 77, 150, 700, 1500])
def test_many_classes_have_a_picture_of_fixed_size_without_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_classes: int
) -> None:
    texts = drawn_texts(monkeypatch)
    figures.confusion_matrix(tmp_path / "a.png", confusion(n_classes), [str(number) for number in range(n_classes)])
    assert size(tmp_path / "a.png") == (960, 840)
    assert texts == []


def test_few_classes_have_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = drawn_texts(monkeypatch)
    figures.confusion_matrix(tmp_path / "a.png", confusion(20), [str(number) for number in range(20)])
    assert len(texts) == 400
    assert "7\n25.9%" in texts


@pytest.mark.parametrize("n_classes", [300, 700])
def test_no_confusion_is_lost_between_points(tmp_path: Path, n_classes: int) -> None:
    """One confused row of one class changes the picture, wherever it lies."""
    names = [str(number) for number in range(n_classes)]
    counts = np.diag(np.full(n_classes, 20))
    figures.confusion_matrix(tmp_path / "a.png", counts, names)
    for row, column in ((7, 200), (11, 298), (299, 1)):
        other = counts.copy()
        other[row, column] = 10
        figures.confusion_matrix(tmp_path / "b.png", other, names)
        assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_the_most_confused_pairs_come_first_with_their_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = drawn_texts(monkeypatch)
    figures.confused_pairs(tmp_path / "a.png", confusion(30), [f"class {number}" for number in range(30)])
    assert texts == [" 7 of 27 (26%)", " 4 of 24 (17%)"]
    texts.clear()
    everything_wrong = np.ones((60, 60), dtype=int)
    figures.confused_pairs(tmp_path / "b.png", everything_wrong, ["long " * 99 + str(n) for n in range(60)])
    assert len(texts) == figures.MAX_PAIRS
    figures.confused_pairs(tmp_path / "c.png", np.diag(np.full(30, 5)), ["\n\x1b$_{"] * 30)
    assert size(tmp_path / "c.png")[1] < size(tmp_path / "b.png")[1] < 1200


def test_700_classes_are_drawn_in_bounded_time_and_memory(tmp_path: Path) -> None:
    rows = [
        {"text": f"text {number}", "label": f"class {number % 700}", "predicted": f"class {number * number % 700}"}
        for number in range(3500)
    ]
    write_csv(tmp_path / "tables/predictions.csv", rows)
    begin = time.monotonic()
    tracemalloc.start()
    try:
        draw_report("evaluate_classifier", {}, tmp_path / "tables", tmp_path / "plots")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begin < MAX_SECONDS
    assert peak < MAX_PEAK_BYTES
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"confusion.png", "confused_pairs.png"}


def test_names_that_differ_at_their_end_stay_different() -> None:
    shown = {short(f"transfer_not_received_by_{who}") for who in ("recipient", "recipients", "sender")}
    assert len(shown) == 3
    assert max(map(len, shown)) <= 16
    assert short("a\nb\x1b") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"


def loss_axes(path: Path, monkeypatch: pytest.MonkeyPatch, losses: list[float], floor: float | None = None) -> list:
    """Draw a training and return its axes."""
    from matplotlib.figure import Figure

    found: list = []
    subplots = Figure.subplots

    def remember(self, *args, **kwargs):
        axes = subplots(self, *args, **kwargs)
        found.extend(axes.flat)
        return axes

    monkeypatch.setattr(Figure, "subplots", remember)
    steps = [{"step": float(step), "train/loss": loss} for step, loss in enumerate(losses, start=1)]
    evaluations = [{"step": step["step"], "val/loss": step["train/loss"] + 0.01} for step in steps[9::10]]
    figures.loss_curves(path, steps, evaluations, floor=floor, unit="nats per token", bytes_per_token=2.5)
    return found


def test_the_end_near_the_floor_fills_a_panel_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = [0.45 + 6 * 0.99**step for step in range(1000)]
    whole, half = loss_axes(tmp_path / "a.png", monkeypatch, losses, floor=0.44)
    assert whole.get_yscale() == "log"
    assert whole.get_title(loc="left") == "Loss in nats per token"
    low, high = half.get_ylim()
    assert low < 0.44 < high < 0.55
    legend = [text.get_text() for text in whole.get_legend().get_texts()]
    assert legend[1] == "validation, at the end 0.460 (0.184 nats per byte)"
    assert legend[2] == "floor of this text, 0.440 (0.176 nats per byte)"
    colours = {line.get_color() for line in whole.lines if "validation" in str(line.get_label())}
    assert colours.isdisjoint(line.get_color() for line in whole.lines if "training" in str(line.get_label()))


@pytest.mark.parametrize(
    "losses",
    [
        [],
        [1.0],
        [0.0] * 100,
        [1.0] * 100,
        [5.0, 0.0] * 50,
        [5.0, 0.0] * 4,
        [1e-9] * 70 + [1e9],
        [2.0 - step / 1000 for step in range(100)],
        [*([6.0] * 50), *([0.001] * 60)],
    ],
)
@pytest.mark.parametrize("floor", [None, 0.0, 0.5])
@pytest.mark.filterwarnings("error")
def test_any_losses_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: list[float], floor: float | None
) -> None:
    for axes in loss_axes(tmp_path / "a.png", monkeypatch, losses, floor):
        assert np.isfinite(axes.get_ylim()).all()
    assert size(tmp_path / "a.png")[1] == 480


def test_a_long_training_is_smoothed_in_linear_time() -> None:
    values = [1.0 / (1 + step) for step in range(300_000)]
    begin = time.monotonic()
    smoothed = figures._smoothed(values)
    assert time.monotonic() - begin < 5  # quadratic it takes minutes
    width = len(values) // 50
    for place in (0, 1, width - 1, width, len(values) - 1):
        part = values[max(0, place - width + 1) : place + 1]
        assert smoothed[place] == pytest.approx(sum(part) / len(part), rel=1e-9)


def test_tokens_of_a_batch_do_not_touch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes: list[Rectangle] = []
    add = matplotlib.axes.Axes.add_patch

    def add_patch(self, patch):
        boxes.append(patch)
        return add(self, patch)

    monkeypatch.setattr(matplotlib.axes.Axes, "add_patch", add_patch)
    figures.batch_rows(tmp_path / "a.png", [("row", [(f"w{n}", "target" if n % 3 else "masked") for n in range(20)])])
    tokens = [box for box in boxes if box.get_linewidth() == 0 and box.get_y() > 1]
    assert len(tokens) == 20
    for before, after in pairwise(tokens):
        assert after.get_x() - (before.get_x() + before.get_width()) > 0.1
