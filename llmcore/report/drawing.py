"""The canvas of all figures: one style, the same bytes for the same values; texts of the data made visible."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcore.base.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#5F6368"
STYLE: dict[Any, Any] = {
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.1,
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E5E8",
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar sign in a text is a dollar sign
}


@contextmanager
def drawing(path: str | Path, inches: tuple[float, float]) -> Iterator["Figure"]:
    """Yield an empty figure in the project's style; afterwards write it, without date or version, to `path`.

    It owns its canvas: no window, no global figure, and a user's own matplotlibrc changes nothing.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the font's box stands for it
        figure = Figure(figsize=inches)
        FigureCanvasAgg(figure)
        yield figure
        data = io.BytesIO()
        figure.savefig(data, format="png", metadata={"Software": None})
    write_bytes(path, data.getvalue())


def visible(token: str) -> str:
    """Return a token as it can be seen in a figure: `" the\\n" -> "·the⏎"`."""
    return "".join(
        "·" if c == " " else "⏎" if c == "\n" else c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in token
    )


def name_ticks(axes: "Axes", rows: Sequence[str], columns: Sequence[str], size: int = 10) -> None:
    axes.set_xticks(range(len(columns)), columns, size=size)
    axes.set_yticks(range(len(rows)), rows, size=size)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def colour_bar(figure: "Figure", image: Any, axes: "Axes", label: str) -> None:
    bar = figure.colorbar(image, ax=axes, label=label, shrink=0.85)
    bar.outline.set_visible(False)


def short(name: str, width: int = 16) -> str:
    """Return a name as it can be seen, cut in its middle: names of one data set often differ only at the end."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name) or "(empty)"
    first = width // 2
    return shown if len(shown) <= width else f"{shown[:first]}…{shown[first + 1 - width :]}"
