"""Figures for people, tables for `dvc plots`: the same values give the same bytes.

Every function draws one figure and writes it as PNG to `path`. Colours are those of Okabe and Ito and
the map cividis, which colour-blind readers can distinguish; fonts come with matplotlib.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmcore.report.drawing import BLUE, GREEN, GREY, ORANGE, colour_bar, drawing, name_ticks, short
from llmcore.report.drawing import visible as visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHED_FROM = 60  # steps; fewer are drawn as they are
MIN_LOGARITHMIC_RANGE = 4  # from the lowest to the highest loss, as a factor; below it the axis is linear
MAX_NAMED_CLASSES = 20  # of a confusion matrix with names and numbers
MAX_PAIRS = 25
MAX_POINTS = 250  # of a side of the picture of many classes
MAX_LINE_CHARACTERS = 76  # of a text drawn token by token
MAX_LINES = 40
TOKEN_GAP = 0.2  # of a character, between two tokens

Row = Mapping[str, float | None]
T = TypeVar("T")


def loss_curves(
    path: str | Path,
    steps: Sequence[Row],
    evaluations: Sequence[Row],
    *,
    floor: float | None = None,
    unit: str = "nats per token",
    bytes_per_token: float | None = None,
    title: str = "Loss",
) -> None:
    """Draw `train/loss` of `steps` and `val/loss` of `evaluations` over `step`: the whole, and its second half.

    `floor` is the lowest loss any model can reach, where it is known. With `bytes_per_token` the legend has the
    last value in nats per byte too.
    """

    def in_words(loss: float) -> str:
        return f"{loss:.3f}" + (f" ({loss / bytes_per_token:.3f} nats per byte)" if bytes_per_token else "")

    places, losses = _points(steps, "train/loss")
    is_long = len(places) > SMOOTHED_FROM
    validated, val_losses = _points(evaluations, "val/loss")
    training = (places, _smoothed(losses) if is_long else losses)
    with drawing(path, (10 if is_long else 7, 4)) as figure:
        both = figure.subplots(1, 2 if is_long else 1, squeeze=False, width_ratios=[3, 2][: 1 + is_long])[0]
        for axes in both:
            if is_long:
                axes.plot(places, losses, color=BLUE, alpha=0.3, lw=1)
            label = "training, smoothed" if is_long else "training"
            axes.plot(*training, color=BLUE, label=label)
            label = f"validation, at the end {in_words(val_losses[-1])}" if val_losses else "validation"
            axes.plot(validated, val_losses, color=ORANGE, lw=1.2, marker="o", markersize=4.5, label=label)
            if floor is not None:
                axes.axhline(floor, color=GREY, ls="--", lw=1.2, label=f"floor of this text, {in_words(floor)}")
        lowest = min(val_losses) / 5 if val_losses and floor is None else floor
        is_logarithmic = _make_logarithmic(both[0], [*losses, *val_losses], lowest)
        scale = "loss, logarithmic" if is_logarithmic else "loss"
        both[0].set(title=f"{title} in {unit}", xlabel="step", ylabel=scale)
        both[0].legend()
        if is_long:
            half = places[-1] / 2
            points = [*zip(*training, strict=True), *zip(validated, val_losses, strict=True)]
            shown = [loss for step, loss in points if step >= half]
            _show_second_half(both[1], shown, floor, (half, places[-1]))


def _make_logarithmic(axes: "Axes", losses: Sequence[float], lowest: float | None) -> bool:
    """Make the loss axis logarithmic if the losses fall far enough for that; return whether they do.

    `lowest` is the end of the axis, where known: noise below it is cut off.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    positive = [loss for loss in losses if loss > 0]
    top = max(positive, default=1.0)
    bottom = lowest if lowest and lowest > 0 else min(positive, default=1.0)
    if bottom * MIN_LOGARITHMIC_RANGE > top:
        return False
    axes.set_yscale("log")
    axes.set_ylim(bottom / 1.15, top * 1.15)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return True


def _show_second_half(axes: "Axes", losses: Sequence[float], floor: float | None, steps: tuple[float, float]) -> None:
    """Cut both axes to the second half of a training; the floor is in view where the loss has come near it."""
    low, high = min(losses), max(losses)
    if floor is not None and low - floor <= max(high - low, 0.1 * low):
        low, high = min(low, floor), max(high, floor)
    margin = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    begin, end = steps
    axes.set(title="The second half", xlabel="step", ylabel="loss", xlim=(begin, end * 1.02))
    axes.set_ylim(low - margin, high + margin)


def learning_rate(path: str | Path, rows: Sequence[Row]) -> None:
    """Draw `train/lr` over `step`."""
    with drawing(path, (7, 3)) as figure:
        axes = figure.add_subplot(title="Learning rate", xlabel="step", ylabel="learning rate")
        axes.plot(*_points(rows, "train/lr"), color=GREEN)
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))


def confusion_matrix(path: str | Path, counts: Any, names: Sequence[str]) -> None:
    """Draw how often each class was taken for each; rows actual, columns predicted, shaded by share of the row.

    `counts` is (K, K). More than MAX_NAMED_CLASSES classes give a picture of fixed size with numbered classes.
    """
    import numpy as np

    table = np.asarray(counts, dtype=np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    if len(names) > MAX_NAMED_CLASSES:
        _many_classes(path, shares)
        return
    side = 2.4 + 0.8 * len(names)
    with drawing(path, (side + 1.2, side)) as figure:
        axes = figure.add_subplot(title="Confusion matrix", xlabel="predicted", ylabel="actual")
        image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
        for (row, column), share in np.ndenumerate(shares):
            text = f"{int(table[row, column])}\n{share:.1%}"
            axes.text(column, row, text, ha="center", va="center", color="black" if share > 0.5 else "white")
        name_ticks(axes, [short(name) for name in names], [short(name) for name in names])
        colour_bar(figure, image, axes, "share of the actual class")


def _many_classes(path: str | Path, shares: Any) -> None:
    """Draw a confusion matrix as an image alone; `confused_pairs` has the names.

    A point of the image shows the largest share of its classes, so that no confusion is lost between points.
    """
    import numpy as np
    from matplotlib.colors import PowerNorm

    n_classes = len(shares)
    side = -(-n_classes // MAX_POINTS)  # classes of a point
    padding = (0, -n_classes % side)
    points = (
        np.pad(shares, (padding, padding)).reshape((n_classes + padding[1]) // side, side, -1, side).max(axis=(1, 3))
    )
    end = len(points) * side - 0.5
    with drawing(path, (8, 7)) as figure:
        axes = figure.add_subplot(
            title=f"Confusion matrix of {n_classes} classes",
            xlabel="predicted class, counted from 0 in alphabetical order",
            ylabel="actual class",
        )
        scale = PowerNorm(0.5, vmin=0, vmax=1)  # a tenth of a class is a third of the colours
        extent = (-0.5, end, end, -0.5)
        image = axes.imshow(points, cmap="cividis", norm=scale, interpolation="nearest", extent=extent)
        axes.grid(visible=False)
        colour_bar(figure, image, axes, "share of the actual class")


def confused_pairs(path: str | Path, counts: Any, names: Sequence[str]) -> None:
    """Draw the pairs of classes that are confused most: actual, predicted, rows, share of the actual class."""
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    table = np.array(counts, dtype=np.int64)
    totals = table.sum(axis=1)
    np.fill_diagonal(table, 0)
    cells = np.argwhere(table).tolist()
    pairs = sorted(cells, key=lambda cell: (-table[*cell], totals[cell[0]], cell))[:MAX_PAIRS]
    rows = f"rows ({int(table.sum()):,} of {int(totals.sum()):,} are classified wrongly)"
    with drawing(path, (9, 1.5 + 0.27 * max(len(pairs), 1))) as figure:
        axes = figure.add_subplot(title="The most confused pairs", xlabel=rows)
        for place, (actual, guess) in enumerate(pairs):
            count, total = table[actual, guess], totals[actual]
            axes.barh(place, count, color=ORANGE, height=0.7)
            axes.text(count, place, f" {count} of {total} ({count / total:.0%})", va="center", size=9)
        labels = [f"{short(names[actual], 26)} → {short(names[guess], 26)}" for actual, guess in pairs]
        axes.set_yticks(range(len(pairs)), labels, size=9)
        axes.set_ylim(max(len(pairs), 1) - 0.5, -0.5)
        axes.set_xlim(0, 1.25 * max(int(table.max(initial=0)), 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=False, axis="y")


def class_scores(path: str | Path, classes: Sequence[Mapping[str, Any]]) -> None:
    """Draw F1 of the MAX_PAIRS classes that have the lowest, with its interval; `classes` is sorted by it.

    A row has `class`, `rows`, `f1`, `f1_low`, `f1_high`.
    """
    shown = classes[:MAX_PAIRS]
    part = "" if len(shown) == len(classes) else f": the lowest {len(shown)} of {len(classes)}"
    about = "F1 with its interval; beside the name the number of test rows"
    with drawing(path, (8, 1.3 + 0.27 * len(shown))) as figure:
        axes = figure.add_subplot(title=f"F1 of each class{part}", xlabel=about, xlim=(0, 1))
        for place, row in enumerate(shown):
            axes.plot([row["f1_low"], row["f1_high"]], [place, place], color=GREY, lw=1.2)
            axes.plot(row["f1"], place, color=BLUE, marker="o", markersize=6)
        labels = [f"{short(row['class'], 32)} ({row['rows']})" for row in shown]
        axes.set_yticks(range(len(shown)), labels, size=9)
        axes.set_ylim(len(shown) - 0.5, -0.5)


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
        name_ticks(axes, [visible(token) for token in tokens], [visible(token) for token in tokens], size=8)
        axes.tick_params(axis="x", labelrotation=90)
        colour_bar(figure, image, axes, "attention weight")


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
                edge = {"edgecolor": GREY, "lw": 0.5} if kind == "padding" else {"lw": 0}
                corner, width = (column + TOKEN_GAP / 2, row + 0.06), len(text) - TOKEN_GAP
                axes.add_patch(Rectangle(corner, width, 0.88, facecolor=ground, **edge))
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


def _points(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    pairs = [(step, value) for row in rows if (value := row.get(key)) is not None and (step := row["step"]) is not None]
    return [step for step, _ in pairs], [value for _, value in pairs]


def _smoothed(values: Sequence[float]) -> list[float]:
    """Return at each point the mean of as many points before it as make a fiftieth of the curve."""
    import numpy as np

    width = max(len(values) // 50, 2)
    sums = np.concatenate([np.zeros(width), np.cumsum(values, dtype=np.float64)])
    counts = np.minimum(np.arange(len(values)) + 1, width)
    means: list[float] = ((sums[width:] - sums[:-width]) / counts).tolist()
    return means


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
