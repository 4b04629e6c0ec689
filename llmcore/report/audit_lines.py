"""The two lines about an audit that a stage prints and its page begins with."""

from collections.abc import Mapping

SPLITS = ("train", "val", "test")
SIZES = ("rows", "read_rows", "classes")  # metrics of the whole data set that are not problems


def audit_lines(metrics: Mapping[str, float]) -> list[str]:
    """Return two lines that a person must read before trusting a test score: leaks, and other problems."""
    rows, exact, near = (metrics[f"test_{key}"] for key in ("rows", "in_train", "near_train"))
    leak = (
        f"{exact:,} of {rows:,} test rows stand in train word for word, {near:,} but for case, spacing and numbers"
        if near
        else f"none of {rows:,} test rows stands in train"
    )
    problems = [f"{words(key)} {count:,}" for key, count in problem_counts(metrics).items() if count]
    return [f"Leaks: {leak}.", f"Rows to look at: {', '.join(problems) or 'nothing'}."]


def problem_counts(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the counts over all splits that should be zero."""
    per_split = tuple(f"{split}_" for split in SPLITS)
    return {key: value for key, value in metrics.items() if not key.startswith(per_split) and key not in SIZES}


def words(key: str) -> str:
    return key.replace("_", " ")
