"""What a training has seen, as rows for files and figures: no times, so a rerun writes the same bytes."""


class History:
    """Collects the loop's events; the rows of `steps` and `validations` are in the order of steps."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.validations: list[dict[str, float]] = []

    def trained(self, step: int, metrics: dict[str, float]) -> None:
        row = {"loss_train": metrics["loss"], "lr": metrics["lr"], "grad_norm": metrics["grad_norm"]}
        self.steps.append({"step": step, **row})

    def evaluated(self, step: int, metrics: dict[str, float]) -> None:
        renamed = {("loss_val" if name == "loss" else name): value for name, value in metrics.items()}
        self.validations.append({"step": step, **renamed})

    def mean_loss(self, last_steps: int) -> float:
        """Return the mean training loss of the last `last_steps` steps, or of all where there are fewer."""
        losses = [row["loss_train"] for row in self.steps[-last_steps:]]
        return sum(losses) / len(losses)
