"""The history of a training as rows for files and figures: no times, so a rerun writes the same bytes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmcore.train.step import StepResult

COLUMNS = ("step", "train/loss", "train/lr", "train/grad_norm")  # of a step

Row = dict[str, float]


class History:
    """Collects steps, evaluations and sampled texts in the order of steps."""

    def __init__(self) -> None:
        self.steps: list[Row] = []
        self.evaluations: list[Row] = []
        self.samples: dict[int, str] = {}  # step -> text generated then
        self.tokens_seen = 0  # inputs, without padding
        self.n_target_tokens = 0  # positions that gave loss

    def on_resume(self, step: int) -> None:
        return

    def on_step_end(self, step: int, result: "StepResult") -> None:
        self.steps.append({"step": step, **result.metrics})
        self.tokens_seen += result.n_tokens
        self.n_target_tokens += result.n_targets

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        self.evaluations.append({"step": step, **metrics})

    def mean_loss(self, last_steps: int) -> float:
        """Return the mean training loss of the last `last_steps` steps, or of all where there are fewer."""
        losses = [row["train/loss"] for row in self.steps[-last_steps:]]
        return sum(losses) / len(losses)

    def dump(self) -> tuple[list[list[float]], dict[str, Any]]:
        """Return the rows of `steps` as numbers alone, and the rest as a JSON value; `load` takes both back.

        Rows are many: as JSON they would take longer to write than the weights of a small model.
        """
        names = ("evaluations", "samples", "tokens_seen", "n_target_tokens")
        return [list(row.values()) for row in self.steps], {name: getattr(self, name) for name in names}

    def load(self, rows: list[list[float]], rest: dict[str, Any]) -> None:
        """Become the history that was dumped; JSON has made text of the samples' steps."""
        self.steps = [dict(zip(COLUMNS, (int(step), *row), strict=True)) for step, *row in rows]
        self.evaluations = rest["evaluations"]
        self.samples = {int(step): text for step, text in rest["samples"].items()}
        self.tokens_seen = rest["tokens_seen"]
        self.n_target_tokens = rest["n_target_tokens"]
