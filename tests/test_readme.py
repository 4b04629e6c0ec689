"""The numbers of the README are those of the committed metrics."""

import json
from typing import Any

import pytest
from structure import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def metrics(stage: str) -> dict[str, Any]:
    return json.loads((ROOT / "reports" / stage / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("stage", "key", "form"),
    [
        ("pretrain", "val_nats_per_byte", "{:.3f}"),
        ("pretrain", "floor_nats_per_byte", "{:.3f}"),
        ("pretrain", "above_floor", "{:.1%}"),
        ("pretrain", "parameters", "{:,}"),
        ("evaluate_classifier", "accuracy", "{:.1%}"),
        ("evaluate_classifier", "accuracy_low", "{:.1%}"),
        ("evaluate_classifier", "accuracy_high", "{:.1%}"),
        ("evaluate_classifier", "best_possible_accuracy", "{:.1%}"),
        ("evaluate_classifier", "tfidf_accuracy", "{:.1%}"),
        ("evaluate_classifier", "majority_accuracy", "{:.1%}"),
        ("evaluate_instruct", "checkable_accuracy", "{:.1%}"),
        ("evaluate_instruct", "lookup_exact_match", "{:.1%}"),
    ],
)
def test_a_number_of_the_readme_is_the_committed_one(stage: str, key: str, form: str) -> None:
    assert form.format(metrics(stage)[key]) in README
