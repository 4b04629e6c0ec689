"""Figures for people, tables for `dvc plots`: the same values give the same bytes.

Every function draws one figure and writes it as PNG to `path`. Colours are those of Okabe and Ito and
the map cividis, which colour-blind readers can distinguish; fonts come with matplotlib.
"""

import io
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

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
SMOOTHED_FROM = 60  # steps; fewer are drawn as they are
MAX_LINE_CHARACTERS = 76  # of a text drawn token by token
MAX_LINES = 40

Row = Mapping[str, float | None]
T = TypeVar("T")


def loss_curves(
    path: str | Path,
    steps: Sequence[Row],
    evaluations: Sequence[Row],
    *,
    floor: float | None = None,
    title: str = "Loss",
) -> None:
    """Draw `train/loss` of `steps` and `val/loss` of `evaluations` over `step`, in nats.

    `floor` is the lowest loss any model can reach, where it is known.
    """
    with drawing(path, (7, 4)) as figure:
        axes = figure.add_subplot(title=title, xlabel="step", ylabel="loss in nats")
        places, losses = _points(steps, "train/loss")
        if len(places) > SMOOTHED_FROM:
            axes.plot(places, losses, color=BLUE, alpha=0.3, lw=1)
            axes.plot(places, _smoothed(losses), color=BLUE, label="training, smoothed")
        else:
            axes.plot(places, losses, color=BLUE, label="training")
        axes.plot(*_points(evaluations, "val/loss"), color=ORANGE, marker="o", markersize=4, label="validation")
        if floor is not None:
            axes.axhline(floor, color=GREY, ls="--", lw=1.2, label=f"floor of this text, {floor:.3f}")
        axes.legend()


def learning_rate(path: str | Path, rows: Sequence[Row]) -> None:
    """Draw `train/lr` over `step`."""
    with drawing(path, (7, 3)) as figure:
        axes = figure.add_subplot(title="Learning rate", xlabel="step", ylabel="learning rate")
        axes.plot(*_points(rows, "train/lr"), color=GREEN)
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))


def confusion_matrix(path: str | Path, counts: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Draw how often each class was taken for each; rows actual, columns predicted, shaded by share of the row."""
    import numpy as np

    table = np.asarray(counts, dtype=np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = 2.4 + 0.8 * len(names)
    with drawing(path, (side + 1.2, side)) as figure:
        axes = figure.add_subplot(title="Confusion matrix", xlabel="predicted", ylabel="actual")
        image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            text = f"{int(table[row, column])}\n{share:.1%}"
            axes.text(column, row, text, ha="center", va="center", color="black" if share > 0.5 else "white")
        _name_ticks(axes, [_short(name) for name in names], [_short(name) for name in names])
        _colour_bar(figure, image, axes, "share of the actual class")


def length_histogram(
    path: str | Path, lengths: Mapping[str, Sequence[int]], *, limit: int | None = None, unit: str = "tokens"
) -> None:
    """Draw the distribution of lengths of each named group; `limit` marks where rows are cut."""
    import numpy as np

    everything = [length for group in lengths.values() for length in group]
    edges = np.unique(np.linspace(0, max([limit or 1, *everything]), 41).round())
    with drawing(path, (7, 3.5)) as figure:
        axes = figure.add_subplot(title="Lengths", xlabel=f"length in {unit}", ylabel="share of rows")
        for (name, group), colour in zip(sorted(lengths.items()), (BLUE, ORANGE, GREEN, GREY), strict=False):
            weights = np.full(len(group), 1 / max(len(group), 1))
            label = f"{name} ({len(group)} rows)"
            axes.hist(group, bins=list(edges), weights=weights, histtype="step", lw=1.8, color=colour, label=label)
        if limit is not None:
            cut = sum(length > limit for length in everything)
            axes.axvline(limit, color=GREY, ls="--", lw=1.2, label=f"limit {limit} ({cut} longer)")
        axes.legend()


def attention_map(path: str | Path, weights: Any, tokens: Sequence[str], *, title: str = "Attention") -> None:
    """Draw one head's attention: (T, T) weights, row = the token that looks, column = the token looked at."""
    import numpy as np
    from matplotlib.colors import PowerNorm

    shown = np.asarray(weights, dtype=np.float64)
    side = min(3 + 0.22 * len(tokens), 14)
    with drawing(path, (side + 0.8, side)) as figure:
        axes = figure.add_subplot(title=title, xlabel="looked at", ylabel="looking")
        future = np.triu(np.ones_like(shown, dtype=bool), k=1)
        scale = PowerNorm(0.5, vmin=0, vmax=1)  # weights are small where many tokens share them
        image = axes.imshow(np.ma.masked_array(shown, future), cmap="cividis", norm=scale)
        _name_ticks(axes, [visible(token) for token in tokens], [visible(token) for token in tokens], size=8)
        axes.tick_params(axis="x", labelrotation=90)
        _colour_bar(figure, image, axes, "attention weight")


def token_probabilities(
    path: str | Path, tokens: Sequence[str], probabilities: Sequence[float], *, title: str = "Probability of each token"
) -> None:
    """Draw a text, each token on a ground coloured by the probability that the model gave it."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    lines = _wrapped(tokens, probabilities)
    colours = colormaps["cividis"]
    with drawing(path, (9, 1.3 + 0.27 * len(lines))) as figure:
        axes = figure.add_subplot(title=title, xlim=(0, MAX_LINE_CHARACTERS), ylim=(max(len(lines), 1), 0))
        axes.axis("off")
        for row, line in enumerate(lines):
            column = 0
            for text, probability in line:
                corner, width = (column, row + 0.06), len(text) - 0.08
                axes.add_patch(Rectangle(corner, width, 0.88, color=colours(probability), lw=0))
                ink = "black" if probability > 0.5 else "white"
                middle = column + len(text) / 2
                axes.text(middle, row + 0.52, text, ha="center", va="center", color=ink, size=10, family="monospace")
                column += len(text)
        scale = ScalarMappable(Normalize(0, 1), colours)
        figure.colorbar(scale, ax=axes, label="probability", location="bottom", aspect=50, fraction=0.04)


def batch_rows(
    path: str | Path, rows: Sequence[tuple[str, Sequence[tuple[str, str]]]], *, title: str = "Batch"
) -> None:
    """Draw rows of (title, (text, kind) of each token): targets on green, masked tokens on grey."""
    from matplotlib.patches import Patch, Rectangle

    colours = {"target": "#7FD1B5", "masked": "#DADCE0", "padding": "white"}
    lines: list[list[tuple[str, str]]] = []
    for name, pieces in rows:
        of_row = [[(f"[{name}]", "title")], *_batch_lines(pieces)]
        if lines and len(lines) + len(of_row) > MAX_LINES:  # rows are shown whole
            break
        lines += of_row[:MAX_LINES]
    with drawing(path, (9, 1.3 + 0.27 * len(lines))) as figure:
        axes = figure.add_subplot(title=title, xlim=(0, MAX_LINE_CHARACTERS), ylim=(max(len(lines), 1), 0))
        axes.axis("off")
        for row, line in enumerate(lines):
            column = 0
            for text, kind in line:
                ground = colours.get(kind, "white")
                edge = GREY if kind == "padding" else ground
                axes.add_patch(
                    Rectangle((column, row + 0.06), len(text) - 0.08, 0.88, facecolor=ground, edgecolor=edge, lw=0.5)
                )
                axes.text(
                    column + len(text) / 2, row + 0.52, text, ha="center", va="center", size=10, family="monospace"
                )
                column += len(text)
        names = {"target": "learned", "masked": "read only", "padding": "padding"}
        patches = [Patch(facecolor=colours[kind], edgecolor=GREY, label=name) for kind, name in names.items()]
        axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(0, 0), ncols=3)


def _batch_lines(pieces: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Break a row into lines; what is left of it as padding becomes one box with its length."""
    padding = sum(kind == "padding" for _, kind in pieces)
    shown = [(text, kind) for text, kind in pieces if kind != "padding"]
    lines = _wrapped([text for text, _ in shown], [kind for _, kind in shown])
    return [*lines, [(f" {padding} padding ", "padding")]] if padding else lines


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


def _points(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    pairs = [(step, value) for row in rows if (value := row.get(key)) is not None and (step := row["step"]) is not None]
    return [step for step, _ in pairs], [value for _, value in pairs]


def _smoothed(values: Sequence[float]) -> list[float]:
    """Return at each point the mean of as many points before it as make a fiftieth of the curve."""
    width = max(len(values) // 50, 2)
    return [sum(part) / len(part) for i in range(len(values)) if (part := values[max(0, i - width + 1) : i + 1])]


def _wrapped(tokens: Sequence[str], values: Sequence[T]) -> list[list[tuple[str, T]]]:
    """Break a text into lines of tokens, each with its value: at its own line ends, and where a line is full."""
    lines: list[list[tuple[str, T]]] = [[]]
    for token, value in zip(tokens, values, strict=True):
        for text in textwrap.wrap(visible(token), MAX_LINE_CHARACTERS) or [""]:
            if sum(len(t) for t, _ in lines[-1]) + len(text) > MAX_LINE_CHARACTERS:
                lines.append([])
            lines[-1].append((text, value))
        if token.endswith("\n"):
            lines.append([])
    return [line for line in lines if line][:MAX_LINES]


def _name_ticks(axes: "Axes", rows: Sequence[str], columns: Sequence[str], size: int = 10) -> None:
    axes.set_xticks(range(len(columns)), columns, size=size)
    axes.set_yticks(range(len(rows)), rows, size=size)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _colour_bar(figure: "Figure", image: Any, axes: "Axes", label: str) -> None:
    bar = figure.colorbar(image, ax=axes, label=label, shrink=0.85)
    bar.outline.set_visible(False)


def _short(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"
