"""The results of several seeds as a table, each built as a DVC experiment: python -m llmcore.dvc.seeds 1 2 3

What does not depend on the seed is taken from DVC's cache. `dvc exp show` lists the experiments.
"""

import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from llmcore.base.errors import UserError, run_entry_point
from llmcore.base.files import write_text
from llmcore.base.git import git
from llmcore.base.markdown import markdown_table
from llmcore.base.project import project_root
from llmcore.dvc.command import activated
from llmcore.dvc.experiments import committed_metrics

TABLE = Path("reports/seeds.md")

Metrics = Mapping[str, Mapping[str, float]]  # stage -> its metrics


def weakest_kind(metrics: Metrics) -> tuple[str, float]:
    """Return the kind of instruction with the fewest correct answers, and their share."""
    found = metrics["evaluate_instruct"]
    shares = {key.split("/")[1]: share for key, share in found.items() if key.endswith("/accuracy")}
    return min(shares.items(), key=lambda item: item[1])


COLUMNS: dict[str, Callable[[Metrics], float]] = {
    "loss above its bound": lambda metrics: metrics["pretrain"]["above_floor"],
    "messages classified": lambda metrics: metrics["evaluate_classifier"]["accuracy"],
    "instructions answered": lambda metrics: metrics["evaluate_instruct"]["checkable_accuracy"],
    "of the weakest kind": lambda metrics: weakest_kind(metrics)[1],
}


def main(arguments: list[str]) -> None:
    """Build each seed and write the table; UserError for arguments that are no seeds, and for a build that fails."""
    if not arguments or not all(argument.isdecimal() for argument in arguments):
        raise UserError("seeds: must be whole numbers, for example: python -m llmcore.dvc.seeds 1 2 3")
    found = {int(seed): build(project_root(), int(seed)) for seed in arguments}
    text = table(found)
    write_text(project_root() / TABLE, text)
    print(text, end="")


def build(root: Path, seed: int) -> dict[str, dict[str, float]]:
    """Build the pipeline with a seed, as a DVC experiment outside the workspace; return the metrics of its stages."""
    name = f"seed-{seed}"
    # fails where there is none yet
    subprocess.run(["dvc", "exp", "remove", "--quiet", name], cwd=root, env=activated(), stderr=subprocess.DEVNULL)
    command = ["dvc", "exp", "run", "--temp", "--name", name, "--set-param", f"seed={seed}"]
    if subprocess.run(command, cwd=root, env=activated()).returncode:
        raise UserError(f"seed {seed}: the build failed; correct the error above and try again")
    [commit] = git(root, "for-each-ref", "--format=%(objectname)", f"refs/exps/**/{name}").split()
    stages = ("pretrain", "evaluate_classifier", "evaluate_instruct")
    return {stage: committed_metrics(root, commit, stage) for stage in stages}


def table(found: Mapping[int, Metrics]) -> str:
    """Return the table in Markdown: a row for each seed, then the median and the range."""
    rows = {str(seed): [column(metrics) for column in COLUMNS.values()] for seed, metrics in found.items()}
    columns = list(zip(*rows.values(), strict=True))
    cells = {seed: [f"{share:.1%}" for share in row] for seed, row in rows.items()}
    for seed, metrics in found.items():
        cells[str(seed)][-1] += f" ({weakest_kind(metrics)[0]})"
    cells["median"] = [f"{statistics.median(column):.1%}" for column in columns]
    cells["range"] = [f"{min(column):.1%} to {max(column):.1%}" for column in columns]
    lines = markdown_table(["seed", *COLUMNS], ([name, *row] for name, row in cells.items()))
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(run_entry_point(lambda: main(sys.argv[1:]), prints_result=True))
