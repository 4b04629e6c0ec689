"""How good answers are, beside one who always says the same and one who only remembers."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmcore.evaluate.scores import (
    Uncertainty,
    exact_match,
    lookup_answers,
    mean_interval,
    most_frequent,
    rouge_l,
    token_f1,
    wilson,
)

Row = Mapping[str, Any]
SHARES = {"exact_match": "correct", "stop_rate": "ended"}  # metric -> truth value of a row
MEANS = {"token_f1": "token_f1", "rouge_l": "rouge_l", "reference_log_likelihood": "log_likelihood"}
MEANS |= {"mean_answer_words": "words", "judge_score": "judge_score"}


def scored(row: Row, answer: str, *, ended: bool, log_likelihood: float) -> dict[str, Any]:
    """Return a test row with the answer it got and the scores of that answer.

    `log_likelihood` is the natural log of the probability that the model gives to `output` and its end.
    """
    wanted = row["output"]
    return {
        **row,
        "answer": answer,
        "correct": exact_match(answer, wanted),
        "token_f1": token_f1(answer, wanted),
        "rouge_l": rouge_l(answer, wanted),
        "log_likelihood": log_likelihood,
        "ended": ended,
        "words": len(answer.split()),
    }


def scores(rows: Sequence[Row], uncertainty: Uncertainty) -> dict[str, float]:
    """Return the metrics of `scored` rows: shares and means, each with its interval.

    Those that no row has a value for are left out. For rows marked `checkable`, whose answer is one or none,
    also the share that is right, and the share in each `kind`.
    """
    metrics: dict[str, float] = {"rows": len(rows)}
    for metric, key in SHARES.items():
        metrics |= share(metric, [row[key] for row in rows], uncertainty)
    for metric, key in MEANS.items():
        if values := [row[key] for row in rows if row.get(key) is not None]:
            low, high = mean_interval(values, uncertainty.confidence, uncertainty.generator)
            metrics |= {metric: sum(values) / len(values), f"{metric}_low": low, f"{metric}_high": high}
    if checkable := [row for row in rows if row.get("checkable")]:
        metrics["checkable_rows"] = len(checkable)
        metrics |= share("checkable_accuracy", [row["correct"] for row in checkable], uncertainty)
    for kind in sorted({row["kind"] for row in checkable if row.get("kind")}):
        right = [row["correct"] for row in checkable if row.get("kind") == kind]
        metrics[f"accuracy_{'_'.join(str(kind).split())}"] = sum(right) / len(right)
    return metrics


def baselines(
    prompts: Sequence[str],
    outputs: Sequence[str],
    asked: Sequence[str],
    wanted: Sequence[str],
    uncertainty: Uncertainty,
) -> dict[str, float]:
    """Return the exact match of the commonest training answer, and of the answer to the same training prompt.

    `prompts` and `outputs` are those of training, `asked` and `wanted` those of the test.
    """
    common, known = most_frequent(outputs), lookup_answers(prompts, outputs, asked)
    always = [exact_match(common, output) for output in wanted]
    remembered = [exact_match(answer, output) for answer, output in zip(known, wanted, strict=True)]
    return share("most_frequent_exact_match", always, uncertainty) | share(
        "lookup_exact_match", remembered, uncertainty
    )


def share(name: str, truths: Sequence[bool], uncertainty: Uncertainty) -> dict[str, float]:
    """Return a share of rows and Wilson's interval around it."""
    low, high = wilson(sum(truths), len(truths), uncertainty.confidence)
    return {name: sum(truths) / len(truths), f"{name}_low": low, f"{name}_high": high}
