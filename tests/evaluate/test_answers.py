"""Scores of answers, each with its interval, beside one who remembers and one who always says the same."""

import numpy as np
import pytest

from llmcore.evaluate.answers import baselines, scored, scores
from llmcore.evaluate.scores import Uncertainty, wilson


def uncertainty() -> Uncertainty:
    return Uncertainty(0.95, np.random.default_rng(0))


def row(answer: str, output: str = "a red ball", **keys: object) -> dict[str, object]:
    return scored(
        {"instruction": "What?", "input": "", "output": output, **keys}, answer, ended=True, log_likelihood=-2.0
    )


def test_an_answer_gets_every_score() -> None:
    found = row("The red ball!")
    assert (found["correct"], found["token_f1"], found["words"]) == (True, 1.0, 3)
    assert found["rouge_l"] == pytest.approx(2 * 2 / 6)
    assert (found["ended"], found["log_likelihood"], found["output"]) == (True, -2.0, "a red ball")


def test_every_score_has_an_interval_around_it() -> None:
    rows = [row("red ball"), row("blue ball"), row("ball"), row("a red ball")] * 5
    metrics = scores(rows, uncertainty())
    assert metrics["rows"] == 20
    assert metrics["exact_match"] == 0.5
    assert (metrics["exact_match_low"], metrics["exact_match_high"]) == wilson(10, 20, 0.95)
    for key in ("token_f1", "rouge_l", "mean_answer_words"):
        assert metrics[f"{key}_low"] < metrics[key] < metrics[f"{key}_high"]
    assert metrics["stop_rate"] == 1.0
    assert metrics["reference_log_likelihood"] == -2.0
    assert not any("judge" in key for key in metrics)


def test_checkable_rows_are_counted_by_kind() -> None:
    rows = [row("ball", "ball", kind="who has", checkable=True), row("x", kind="sum", checkable=True), row("y")]
    metrics = scores(rows, uncertainty())
    assert (metrics["checkable_rows"], metrics["checkable_accuracy"]) == (2, 0.5)
    assert (metrics["accuracy_who_has"], metrics["accuracy_sum"]) == (1.0, 0.0)


def test_judged_rows_alone_make_the_judges_mean() -> None:
    rows = [row("x") | {"judge_score": score} for score in (80, None, 40)]
    assert scores(rows, uncertainty())["judge_score"] == 60.0


def test_baselines_remember_or_always_say_the_same() -> None:
    metrics = baselines(["q1", "q2", "q3"], ["x", "y", "x"], ["q2", "q4"], ["y", "x"], uncertainty())
    assert metrics["most_frequent_exact_match"] == 0.5
    assert metrics["lookup_exact_match"] == 1.0
    assert metrics["lookup_exact_match_low"] == wilson(2, 2, 0.95)[0]
