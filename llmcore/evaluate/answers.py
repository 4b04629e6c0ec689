"""How good answers are, beside one who always says the same and one who only remembers."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmcore.evaluate.scores import exact_match, lookup_answers, most_frequent, token_f1, wilson

Row = Mapping[str, Any]


def scores(rows: Sequence[Row], confidence: float) -> dict[str, float]:
    """Return exact match and word F1 of `answer` against `output`.

    For rows marked `checkable`, whose answer is one or none, also the share that is right, its interval,
    and the share in each `kind`.
    """
    metrics: dict[str, float] = {
        "rows": len(rows),
        "exact_match": share(row["correct"] for row in rows),
        "token_f1": share(token_f1(row["answer"], row["output"]) for row in rows),
    }
    if checkable := [row for row in rows if row.get("checkable")]:
        right = sum(row["correct"] for row in checkable)
        low, high = wilson(right, len(checkable), confidence)
        metrics |= {"checkable_rows": len(checkable), "checkable_accuracy": right / len(checkable)}
        metrics |= {"checkable_accuracy_low": low, "checkable_accuracy_high": high}
    for kind in sorted({row["kind"] for row in checkable if row.get("kind")}):
        of_kind = share(row["correct"] for row in checkable if row.get("kind") == kind)
        metrics[f"accuracy_{'_'.join(str(kind).split())}"] = of_kind
    return metrics


def baselines(
    prompts: Sequence[str], outputs: Sequence[str], asked: Sequence[str], wanted: Sequence[str]
) -> dict[str, float]:
    """Return the exact match of the commonest training answer, and of the answer to the same training prompt.

    `prompts` and `outputs` are those of training, `asked` and `wanted` those of the test.
    """
    common, known = most_frequent(outputs), lookup_answers(prompts, outputs, asked)
    return {
        "most_frequent_exact_match": share(exact_match(common, output) for output in wanted),
        "lookup_exact_match": share(exact_match(a, output) for a, output in zip(known, wanted, strict=True)),
    }


def share(values: Any) -> float:
    """Return the mean of some numbers or truth values."""
    values = list(values)
    return sum(values) / len(values)
