"""Evaluation of answers to instructions: scores with intervals, and two baselines."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from llmcore.base.rows import AnswerRow, InstructionRow
from llmcore.evaluate.baselines import lookup_answers, most_frequent
from llmcore.evaluate.metric_names import interval_ends, kind_metric
from llmcore.evaluate.scores import (
    Uncertainty,
    exact_match,
    mean_interval,
    rouge_l,
    token_f1,
    wilson_interval,
)


def scored(row: InstructionRow, answer: str, *, ended: bool, log_likelihood: float) -> AnswerRow:
    """Return a test row with the model's answer and its scores.

    `log_likelihood` is the natural log of the probability of `output` and the end-of-text token after it.
    """
    expected = row["output"]
    scored_row = {
        **row,
        "answer": answer,
        "correct": exact_match(answer, expected),
        "token_f1": token_f1(answer, expected),
        "rouge_l": rouge_l(answer, expected),
        "log_likelihood": log_likelihood,
        "ended": ended,
        "words": len(answer.split()),
    }
    return cast(AnswerRow, scored_row)  # mypy cannot know that `row` has no judge_score of another type


def evaluate_answers(
    train: Sequence[InstructionRow],
    rows: Sequence[AnswerRow],
    key: Callable[[InstructionRow], str],
    uncertainty: Uncertainty,
) -> dict[str, float]:
    """Return the metrics of scored answers and of the baselines that `train` gives.

    `key` normalises the prompt of a row: rows with equal keys ask the same.
    """
    return answer_scores(rows, uncertainty) | baseline_scores(train, rows, key, uncertainty)


def answer_scores(rows: Sequence[AnswerRow], uncertainty: Uncertainty) -> dict[str, float]:
    """Return proportions and means over `scored` rows, each with its interval.

    `judge_score` needs at least one row with a score. Rows marked `checkable`, whose answer is right or
    wrong, also give `checkable_accuracy` and `kind_metric` of `accuracy`.
    """
    metrics: dict[str, float] = {"rows": len(rows)}
    metrics |= _proportion("exact_match", [row["correct"] for row in rows], uncertainty)
    metrics |= _proportion("stop_rate", [row["ended"] for row in rows], uncertainty)
    metrics |= _mean("token_f1", [row["token_f1"] for row in rows], uncertainty)
    metrics |= _mean("rouge_l", [row["rouge_l"] for row in rows], uncertainty)
    metrics |= _mean("reference_log_likelihood", [row["log_likelihood"] for row in rows], uncertainty)
    metrics |= _mean("mean_answer_words", [row["words"] for row in rows], uncertainty)
    judge_scores = [score for row in rows if (score := row.get("judge_score")) is not None]
    if judge_scores:
        metrics |= _mean("judge_score", judge_scores, uncertainty)
    return metrics | _checkable_scores([row for row in rows if is_checkable(row)], uncertainty)


def baseline_scores(
    train: Sequence[InstructionRow],
    test: Sequence[InstructionRow],
    key: Callable[[InstructionRow], str],
    uncertainty: Uncertainty,
) -> dict[str, float]:
    """Return the exact match of two baselines, with intervals.

    `most_frequent_exact_match` always gives the most frequent answer of training; `lookup_exact_match`
    gives the training answer to the same prompt.
    """
    train_outputs = [row["output"] for row in train]
    common = most_frequent(train_outputs)
    remembered = lookup_answers([key(row) for row in train], train_outputs, [key(row) for row in test])
    common_matches = [exact_match(common, row["output"]) for row in test]
    lookup_matches = [exact_match(answer, row["output"]) for answer, row in zip(remembered, test, strict=True)]
    return {
        **_proportion("most_frequent_exact_match", common_matches, uncertainty),
        **_proportion("lookup_exact_match", lookup_matches, uncertainty),
    }


def _checkable_scores(rows: Sequence[AnswerRow], uncertainty: Uncertainty) -> dict[str, float]:
    if not rows:
        return {}
    metrics: dict[str, float] = {"checkable_rows": len(rows)}
    metrics |= _proportion("checkable_accuracy", [row["correct"] for row in rows], uncertainty)
    by_kind: dict[str, list[bool]] = {}
    for row in rows:
        if kind := kind_of(row):
            by_kind.setdefault(kind, []).append(row["correct"])
    for kind, correct in sorted(by_kind.items()):
        metrics |= _proportion(kind_metric(kind, "accuracy"), correct, uncertainty)
    return metrics


def is_checkable(row: Mapping[str, Any]) -> bool:
    """Return whether a row's answer is right or wrong; `checkable` must be true itself, not a text such as "no"."""
    return row.get("checkable") is True


def kind_of(row: Mapping[str, Any]) -> str | None:
    """Return the kind of a row's instruction; None where it has none that is a text."""
    kind = row.get("kind")
    return kind if isinstance(kind, str) and kind else None


def _proportion(metric: str, values: Sequence[bool], uncertainty: Uncertainty) -> dict[str, float]:
    """Return the proportion of true values and its Wilson interval."""
    interval = wilson_interval(sum(values), len(values), uncertainty.confidence)
    return {metric: sum(values) / len(values), **interval_ends(metric, interval)}


def _mean(metric: str, values: Sequence[float], uncertainty: Uncertainty) -> dict[str, float]:
    """Return the mean and its bootstrap interval."""
    interval = mean_interval(values, uncertainty.confidence, uncertainty.generator)
    return {metric: sum(values) / len(values), **interval_ends(metric, interval)}
