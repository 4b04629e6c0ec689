"""A run's description is a sentence from its metrics, for the metrics that stages really write."""

import json

import pytest
from structure import ROOT

from llmcore.config.stages import STAGES, describe, report_folder


def test_every_stage_has_a_sentence() -> None:
    assert [name for name, stage in STAGES.items() if not stage.description] == []


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in ("track", "download_weights")])
def test_committed_metrics_fill_the_sentence(stage: str) -> None:
    metrics = json.loads((ROOT / f"reports/{report_folder(stage)}/metrics.json").read_text())
    sentence = describe(stage, metrics)
    assert sentence is not None
    assert sentence.endswith(".")
    assert "{" not in sentence


def test_ledger_names_the_results_of_three_stages() -> None:
    names = ("pretrain/val/nats_per_byte", "evaluate_classifier/accuracy", "evaluate_instruct/exact_match")
    assert describe("track", dict.fromkeys(names, 0.5)) == (
        "One state of the pipeline: 0.5000 nats per byte, 50.0% of texts, 50.0% of instructions."
    )


def test_counts_have_separators() -> None:
    assert describe("download@text", {"bytes": 1234567}) == "1,234,567 bytes."
    assert describe("download_weights@gpt2", {"bytes": 1234567}) == "1,234,567 bytes."


def test_without_the_numbers_there_is_no_sentence() -> None:
    assert describe("pretrain", {"parameters": 1}) is None
