"""The picture of a scaling sweep: loss against tokens, a line for each size, the fit, and the floor of the text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmcore.evaluate.scaling_law import Interval, ScalingLaw
from llmcore.report.drawing import GREY, ORANGE, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_DENSE_RANGE = 8  # from the lowest to the highest value, as a factor, up to which an axis has many ticks

Row = Mapping[str, float]


def scaling_figure(path: str | Path, rows: Sequence[Row], law: ScalingLaw, irreducible: Interval) -> None:
    """Draw `val/loss` over `tokens_seen` on logarithmic axes, and beside it the part of the loss above the floor.

    Points are measured, lines are `law`; `irreducible` is the interval of its E. A row has `parameters`, too, and
    `floor_nats_per_token`, which is the same in all.
    """
    from matplotlib import colormaps

    floor = rows[0]["floor_nats_per_token"]
    sizes = sorted({row["parameters"] for row in rows})
    colours = colormaps["cividis"](np.linspace(0.0, 0.85, len(sizes)))
    tokens = sorted(row["tokens_seen"] for row in rows)
    grid = np.geomspace(tokens[0] / 1.15, tokens[-1] * 1.15, 100)
    with drawing(path, (10, 4.4)) as figure:
        axes, above = figure.subplots(1, 2)
        axes.axhspan(irreducible.low, irreducible.high, color=ORANGE, alpha=0.15, lw=0, label="E of the fit, interval")
        axes.axhline(law.E, color=ORANGE, lw=1.2, label=f"E of the fit, {law.E:.3f}")
        axes.axhline(floor, color=GREY, ls="--", lw=1.2, label=f"floor of this text, {floor:.3f}")
        for size, colour in zip(sizes, colours, strict=True):
            points = [(row["tokens_seen"], row["val/loss"]) for row in rows if row["parameters"] == size]
            places, losses = np.array(sorted(points)).T
            axes.plot(places, losses, "o", color=colour, markersize=4.5)
            above.plot(
                places, losses - floor, "o", color=colour, markersize=4.5, label=f"{size / 1e3:,.0f}k parameters"
            )
            fitted = law.loss(size, grid)
            axes.plot(grid, fitted, color=colour, lw=1.4)
            above.plot(grid, np.where(fitted > floor, fitted - floor, np.nan), color=colour, lw=1.4)
        axes.plot([], [], "o-", color=GREY, lw=1.4, label="trainings, and their fit")
        axes.set(title="Loss in nats per token", ylabel="validation loss")
        bottom = 0.93 * min(max(irreducible.low, 0.8 * floor), floor)  # an interval may reach to zero
        highest = max(row["val/loss"] for row in rows)
        axes.set_ylim(bottom, highest * (highest / bottom) ** 0.45)  # above the lines, a third for the legend
        above.set(title="Its distance to the floor", ylabel="validation loss minus floor")
        for one in (axes, above):
            _name_logarithmic(one, tokens)
        axes.legend(loc="upper right")
        above.legend(loc="lower left")


def _name_logarithmic(axes: "Axes", tokens: Sequence[float]) -> None:
    """Make both axes logarithmic, with the amounts of data and plain numbers as their ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set(xlabel="tokens seen", xscale="log", yscale="log")
    amounts = sorted({float(f"{count:.2g}") for count in tokens})
    axes.set_xticks(amounts, [f"{count / 1e6:g}M" for count in amounts])
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    subs = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9) if high < MAX_DENSE_RANGE * low else (1, 2, 5)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
