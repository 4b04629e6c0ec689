"""The results of a scaling sweep in Markdown: the losses, the fit with intervals, and whether it finds the floor."""

from collections.abc import Mapping, Sequence

import numpy as np

from llmcore.base.markdown import markdown_table
from llmcore.evaluate.scaling_law import EXPONENT_BOUNDS, FittedLaw, ScalingLaw

Row = Mapping[str, float]
MAX_TELLING_WIDTH = 0.2  # of an interval of E, as a share of the floor
MARK = "\\*"  # in Markdown: *
BUDGETS = 4  # of the compute-optimal line: from the cheapest training to the dearest


def scaling_page(rows: Sequence[Row], free: FittedLaw, at_floor: FittedLaw, cost: tuple[float, float]) -> str:
    """Return the page. A row is a training; see `llmcore.run.scaling.point` for its keys.

    `free` is the fit, `at_floor` the one whose E is the floor; a token costs c N^p operations: `cost` (c, p).
    """
    floor = rows[0]["floor_nats_per_token"]
    coefficients = coefficient_table(free, at_floor)
    footnote = f"{MARK}: the largest exponent that is tried; the trainings do not say how far the interval reaches."
    return "\n".join(
        [
            "# Scaling laws, with a known floor",
            "",
            f"{len(rows)} trainings on stories of the built-in world, each with its own schedule to its end and no "
            "token seen twice. Validation loss in nats per token, by size and tokens seen:",
            "",
            *loss_table(rows),
            "",
            f"N counts all parameters. The floor is {floor:.4f}: what the grammar that wrote the validation stories, "
            "and knows the probability of each, would lose on them itself.",
            "",
            "## Fit",
            "",
            "L(N, D) = E + A / N^alpha + B / D^beta, with E free, and with E at the floor:",
            "",
            *coefficients,
            "",
            *([footnote, ""] if any(MARK in line for line in coefficients) else []),
            verdict(free, floor),
            "",
            *(misfit(name, fitted.law, rows) for name, fitted in (("E free", free), ("E at the floor", at_floor))),
            "",
            "![Loss against tokens](scaling.png)",
            "",
            "## Best size for a budget",
            "",
            f"A training of D tokens takes {cost[0]:.3g} N^{cost[1]:.3f} D floating-point operations, after "
            "`llmcore/model/costs.py`. By the fit with E at the floor:",
            "",
            *(budget_table(rows, at_floor.law, cost) if at_floor.law.has_best_size else ["None: an exponent is 0."]),
            "",
        ]
    )


def loss_table(rows: Sequence[Row]) -> list[str]:
    amounts = sorted({row["tokens_seen"] for row in rows})
    sizes = sorted({(row["parameters"], row["n_layer"], row["n_embd"], row["n_head"]) for row in rows})
    losses = {(row["parameters"], row["tokens_seen"]): f"{row['val/loss']:.4f}" for row in rows}
    lines = [
        [f"{layers:g} x {width:g} x {heads:g}", f"{n:,.0f}", *(losses.get((n, d), "") for d in amounts)]
        for n, layers, width, heads in sizes
    ]
    return markdown_table(["blocks x width x heads", "N", *(f"D = {amount:,.0f}" for amount in amounts)], lines)


def coefficient_table(free: FittedLaw, at_floor: FittedLaw) -> list[str]:
    lines = []
    for name in free.intervals:
        cells = [
            f"{getattr(fitted.law, name):.4g} [{_end(fitted.intervals[name].low)}, {_end(fitted.intervals[name].high)}]"
            for fitted in (free, at_floor)
        ]
        lines.append([name, cells[0], f"{at_floor.law.E:.4g}, fixed" if name == "E" else cells[1]])
    return markdown_table([f"[{free.confidence:.0%} interval]", "E free", "E at the floor"], lines)


def _end(value: float) -> str:
    """Return the end of an interval, marked where the fit's bounds made it."""
    return f"{value:.4g}" + (MARK if value == EXPONENT_BOUNDS[1] else "")


def verdict(free: FittedLaw, floor: float) -> str:
    """Return in a sentence whether the fit finds the floor."""
    interval, estimate = free.intervals["E"], free.law.E
    place = "inside" if interval.covers(floor) else "outside"
    wide = interval.high - interval.low > MAX_TELLING_WIDTH * floor
    return (
        f"**The floor, {floor:.4f}, lies {place} the interval of E**, which is {estimate:.4f} "
        f"[{interval.low:.4f}, {interval.high:.4f}]: {estimate / floor - 1:+.1%} from the truth."
        + (" The interval is so wide that this says little." if wide else "")
    )


def misfit(name: str, law: ScalingLaw, rows: Sequence[Row]) -> str:
    errors = np.array([law.loss(row["parameters"], row["tokens_seen"]) / row["val/loss"] - 1 for row in rows])
    worst = rows[int(np.abs(errors).argmax())]
    return (
        f"{name}: the fit misses the losses by {np.sqrt((errors**2).mean()):.1%} (root mean square), at most by "
        f"{np.abs(errors).max():.1%}, for {worst['parameters']:,.0f} parameters and {worst['tokens_seen']:,.0f} tokens."
    )


def budget_table(rows: Sequence[Row], law: ScalingLaw, cost: tuple[float, float]) -> list[str]:
    """Return the compute-optimal line between the cheapest and the dearest training."""
    spent = [row["flops"] for row in rows]
    lines = []
    for flops in np.geomspace(min(spent), max(spent), BUDGETS):
        n = law.best_parameters(flops, cost)
        d = flops / (cost[0] * n ** cost[1])
        lines.append([f"{flops:.2g}", f"{n:,.3g}", f"{d:,.3g}", f"{d / n:.1f}", f"{law.loss(n, d):.3f}"])
    return markdown_table(["FLOPs", "N", "D", "tokens per parameter", "loss"], lines)
