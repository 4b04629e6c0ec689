"""Every figure is drawn, twice with the same bytes, whatever text it shows."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llmcore.report import figures

STEPS = [{"step": i, "train/loss": 4 / (1 + i / 30), "train/lr": 1e-3 * i / 200} for i in range(1, 201)]
VALIDATIONS = [{"step": i, "val/loss": 4.2 / (1 + i / 30)} for i in range(25, 201, 25)]
TOKENS = [
    "One",
    " day",
    ",",
    " Ann",
    " lost",
    " $5",
    " and",
    " $6",
    ".",
    "\n",
    "日本",
    " 100%",
    "_{x}",
    "<|endoftext|>",
]
WEIGHTS = np.tril(np.ones((14, 14))) / np.arange(1, 15)[:, None]

FIGURES: dict[str, Callable[[Path], None]] = {
    "loss": lambda path: figures.loss_curves(path, STEPS, VALIDATIONS, floor=0.4, title="Pretraining"),
    "short_loss": lambda path: figures.loss_curves(path, STEPS[:20], []),
    "lr": lambda path: figures.learning_rate(path, STEPS),
    "confusion": lambda path: figures.confusion_matrix(path, [[480, 5], [12, 103]], ["ham", "spam"]),
    "batch": lambda path: figures.batch_rows(
        path, [("spam", [("Call\n", "masked"), (" now", "target"), *[("", "padding")] * 9])] * 3
    ),
    "lengths": lambda path: figures.length_histogram(path, {"train": [5, 9, 40] * 9, "val": [7, 70]}, limit=64),
    "attention": lambda path: figures.attention_map(path, WEIGHTS, TOKENS, title="Layer 1, head 2"),
    "tokens": lambda path: figures.token_probabilities(path, TOKENS * 4, list(np.linspace(0, 1, 14)) * 4),
}


@pytest.fixture(params=FIGURES)
def draw(request) -> Callable[[Path], None]:
    return FIGURES[request.param]


def chunks(png: bytes) -> dict[bytes, bytes]:
    """The parts of a PNG file, those of one kind joined."""
    parts: dict[bytes, bytes] = {}
    place = 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        kind = png[place + 4 : place + 8]
        parts[kind] = parts.get(kind, b"") + png[place + 8 : place + 8 + length]
        place += 12 + length
    return parts


def test_figure_has_the_same_bytes_twice_and_no_metadata(draw, tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert set(chunks((tmp_path / "a.png").read_bytes())) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_figure_is_not_empty(draw, tmp_path):
    draw(tmp_path / "a.png")
    pixels = zlib.decompress(chunks((tmp_path / "a.png").read_bytes())[b"IDAT"])
    assert len(set(pixels)) > 20


def test_figures_differ_where_their_values_do(tmp_path):
    for name, floor in (("a", 0.4), ("b", 0.5)):
        figures.loss_curves(tmp_path / f"{name}.png", STEPS, VALIDATIONS, floor=floor)
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_empty_inputs_are_drawn(tmp_path):
    figures.loss_curves(tmp_path / "a.png", [], [])
    figures.length_histogram(tmp_path / "b.png", {"train": []})
    figures.token_probabilities(tmp_path / "c.png", [], [])
    assert all((tmp_path / f"{name}.png").stat().st_size > 0 for name in "abc")


def test_process_with_other_matplotlib_settings_draws_the_same_bytes(tmp_path):
    (tmp_path / "matplotlibrc").write_text("figure.facecolor: red\nfont.size: 20\n", encoding="utf-8")
    call = (
        "from llmcore.report import figures; figures.confusion_matrix('a.png', [[480, 5], [12, 103]], ['ham', 'spam'])"
    )
    root = str(Path(__file__).resolve().parents[2])
    subprocess.run([sys.executable, "-c", call], check=True, cwd=tmp_path, env={"PYTHONPATH": root, "PATH": ""})
    FIGURES["confusion"](tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_spaces_and_line_ends_of_tokens_are_visible():
    assert figures.visible(" the\n\t") == "·the⏎\N{REPLACEMENT CHARACTER}"
