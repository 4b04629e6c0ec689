"""What a training has seen, as rows for files and figures: no times, so a rerun writes the same bytes."""

from collections.abc import Iterator
from typing import Any

COLUMNS = ("loss_train", "lr", "grad_norm")  # of a step


class History:
    """Collects the loop's events; the rows of `steps` and `validations` are in the order of steps."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.validations: list[dict[str, float]] = []
        self.samples: dict[int, str] = {}  # step -> text written then
        self.seen_tokens = 0  # positions that gave loss

    def trained(self, step: int, metrics: dict[str, float]) -> None:
        row = (metrics["loss"], metrics["lr"], metrics["grad_norm"])
        self.steps.append({"step": step, **dict(zip(COLUMNS, row, strict=True))})
        self.seen_tokens += int(metrics["supervised"])

    def evaluated(self, step: int, metrics: dict[str, float]) -> None:
        renamed = {("loss_val" if name == "loss" else name): value for name, value in metrics.items()}
        self.validations.append({"step": step, **renamed})

    def sampled(self, step: int, text: str) -> None:
        self.samples[step] = text

    def steps_done(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield each step with its metrics as the loop named them."""
        for row in self.steps:
            yield int(row["step"]), {"loss": row["loss_train"], "lr": row["lr"], "grad_norm": row["grad_norm"]}

    def evaluations(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield each evaluation's step with its metrics as the task named them."""
        for row in self.validations:
            named = {("loss" if key == "loss_val" else key): value for key, value in row.items() if key != "step"}
            yield int(row["step"]), named

    def mean_loss(self, last_steps: int) -> float:
        """Return the mean training loss of the last `last_steps` steps, or of all where there are fewer."""
        losses = [row["loss_train"] for row in self.steps[-last_steps:]]
        return sum(losses) / len(losses)

    def dump(self) -> tuple[list[list[float]], dict[str, Any]]:
        """Return the rows of `steps` as numbers alone, and the rest as a JSON value; `load` takes both back.

        Rows are many: as JSON they would take longer to write than the weights of a small model.
        """
        rest = {"validations": self.validations, "samples": self.samples, "seen_tokens": self.seen_tokens}
        return [list(row.values()) for row in self.steps], rest

    def load(self, rows: list[list[float]], rest: dict[str, Any]) -> None:
        """Become the history that was dumped; JSON has made text of the samples' steps."""
        self.steps = [{"step": int(step), **dict(zip(COLUMNS, row, strict=True))} for step, *row in rows]
        self.validations, self.seen_tokens = rest["validations"], rest["seen_tokens"]
        self.samples = {int(step): text for step, text in rest["samples"].items()}
