"""A run's description is a sentence from its metrics, for the metrics that stages really write."""

import json

import pytest
from structure import ROOT, stages

from llmcore.tracking.descriptions import SENTENCES, sentence


def test_every_stage_has_a_sentence() -> None:
    assert set(SENTENCES) == set(stages()) - {"download_weights"}


@pytest.mark.parametrize("stage", sorted(set(SENTENCES) - {"download", "track"}))
def test_the_committed_metrics_fill_it(stage: str) -> None:
    metrics = json.loads((ROOT / f"reports/{stage}/metrics.json").read_text())
    said = sentence(stage, metrics)
    assert said is not None
    assert said.endswith(".")
    assert "{" not in said


def test_the_ledger_names_the_results_of_three_stages() -> None:
    names = ("pretrain.val_nats_per_byte", "evaluate_classifier.accuracy", "evaluate_instruct.exact_match")
    assert sentence("track", dict.fromkeys(names, 0.5)) == (
        "One state of the pipeline: 0.5000 nats a byte, 50.0% of messages, 50.0% of instructions."
    )


def test_counts_and_shares_are_written_as_people_do() -> None:
    assert sentence("download@text", {"bytes": 1234567}) == "1,234,567 bytes."


def test_without_the_numbers_there_is_no_sentence() -> None:
    assert sentence("pretrain", {"parameters": 1}) is None
    assert sentence("unknown", {}) is None
