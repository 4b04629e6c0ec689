"""Scores of answers with their intervals, and the lookup and most-frequent baselines."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from llmcore.base.rows import AnswerRow, InstructionRow
from llmcore.evaluate.answers import answer_scores, baseline_scores, evaluate_answers, scored
from llmcore.evaluate.scores import Uncertainty, wilson_interval


def uncertainty() -> Uncertainty:
    return Uncertainty(0.95, np.random.default_rng(0))


def row(answer: str, output: str = "a red ball", **keys: Any) -> AnswerRow:
    test_row = cast(InstructionRow, {"instruction": "What?", "input": "", "output": output, **keys})
    return scored(test_row, answer, ended=True, log_likelihood=-2.0)


def prompts_and_outputs(*pairs: tuple[str, str]) -> Sequence[InstructionRow]:
    return [{"instruction": prompt, "input": "", "output": output} for prompt, output in pairs]


def instruction_of(row: InstructionRow) -> str:
    return row["instruction"].casefold()


def test_an_answer_gets_every_score() -> None:
    found = row("The red ball!", kind="toy")
    assert (found["correct"], found["token_f1"], found["words"]) == (True, 1.0, 3)
    assert found["rouge_l"] == pytest.approx(2 * 2 / 6)
    assert (found["ended"], found["log_likelihood"], found["output"]) == (True, -2.0, "a red ball")
    assert found["kind"] == "toy"


def test_every_score_has_an_interval_around_it() -> None:
    rows = [row("red ball"), row("blue ball"), row("ball"), row("a red ball")] * 5
    metrics = answer_scores(rows, uncertainty())
    assert metrics["rows"] == 20
    assert metrics["exact_match"] == 0.5
    assert (metrics["exact_match_low"], metrics["exact_match_high"]) == wilson_interval(10, 20, 0.95)
    for key in ("token_f1", "rouge_l", "mean_answer_words"):
        assert metrics[f"{key}_low"] < metrics[key] < metrics[f"{key}_high"]
    assert metrics["stop_rate"] == 1.0
    assert metrics["reference_log_likelihood"] == -2.0
    assert not any("judge" in key for key in metrics)


def test_checkable_rows_are_scored_by_kind() -> None:
    rows = [row("ball", "ball", kind="who has", checkable=True), row("x", kind="sum", checkable=True), row("y")]
    metrics = answer_scores(rows, uncertainty())
    assert (metrics["checkable_rows"], metrics["checkable_accuracy"]) == (2, 0.5)
    assert (metrics["kind/who has/accuracy"], metrics["kind/sum/accuracy"]) == (1.0, 0.0)


def test_the_judges_mean_is_over_rows_with_a_score() -> None:
    rows: list[AnswerRow] = [{**row("x"), "judge_score": score} for score in (80, None, 40)]
    assert answer_scores(rows, uncertainty())["judge_score"] == 60.0


def test_baselines_are_the_most_frequent_answer_and_a_lookup_by_key() -> None:
    train = prompts_and_outputs(("q1", "x"), ("q2", "y"), ("q3", "x"))
    test = prompts_and_outputs(("Q2", "y"), ("q4", "x"))
    metrics = baseline_scores(train, test, instruction_of, uncertainty())
    assert metrics["most_frequent_exact_match"] == 0.5
    assert metrics["lookup_exact_match"] == 1.0
    assert metrics["lookup_exact_match_low"] == wilson_interval(2, 2, 0.95)[0]


def test_an_evaluation_has_scores_and_baselines() -> None:
    train = prompts_and_outputs(("what?", "a red ball"))
    metrics = evaluate_answers(train, [row("red ball"), row("ball")], instruction_of, uncertainty())
    assert (metrics["exact_match"], metrics["lookup_exact_match"]) == (0.5, 1.0)
