"""Names of metrics of classes and kinds: distinct, accepted by MLflow, reversible, for any label."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlflow.utils import validation

from llmcore.base.rows import AnswerRow
from llmcore.evaluate import classification, metric_names
from llmcore.evaluate.answers import answer_scores
from llmcore.evaluate.scores import Uncertainty, classification_intervals, classification_metrics, confusion_counts
from llmcore.tracking import mlflow_store

HARD_LABELS = [
    *("risk", "risk_low", "risk_high", "risk_low_high", "low", "high", "f1", "rows", "accuracy", "macro_f1"),
    *("C++ (old)", "reverted_card_payment?", "a/b", "a:2Fb", "a_b", "a b", "a  b", " a b", "a b ", "A", "a", "100%"),
    *(
        "",
        " ",
        "\u200b",
        "x",
        "x\u200b",
        ".",
        "..",
        "...",
        ".a",
        "a.",
        "/",
        "//",
        ":",
        "::",
        ":-",
        "-",
        "_",
        "\n",
        "\0",
    ),
    *("日本", "добро", "हिन्दी", "\u00e9", "e\u0301", "😀", "\ud800", "ﬁ", "fi", "null", "NaN", "1", "1.0", "true"),
    *("long " * 60, "long " * 61, "long" * 60, "日" * 200, "日" * 201, "?" * 200, "?" * 201, "x" * 120, "x" * 121),
]
labels = st.text(st.characters() | st.sampled_from(list("ab:/. -_%?AF09")), max_size=60) | st.sampled_from(HARD_LABELS)


def uncertainty() -> Uncertainty:
    return Uncertainty(0.95, np.random.default_rng(0))


def metrics_of(names: list[str]) -> dict[str, float]:
    """Return the metrics of a classifier that is right about half of the classes."""
    predicted = [*names[: len(names) // 2], *reversed(names[len(names) // 2 :])]
    counts = confusion_counts(names, predicted, names)
    found = classification_metrics(names, predicted, names)
    return found | classification_intervals(counts, names, 0.95, np.random.default_rng(0))


@settings(max_examples=400, deadline=None)
@given(st.lists(labels, unique=True, max_size=12))
@example(HARD_LABELS)
def test_distinct_labels_have_distinct_names_that_lead_back(known: list[str]) -> None:
    names = [metric_names.escape(label) for label in known]
    assert len(set(names)) == len(known)
    assert [metric_names.unescape(name, known) for name in names] == known


@settings(max_examples=400, deadline=None)
@given(labels)
def test_mlflow_takes_every_name_with_the_longest_prefix_and_metric(label: str) -> None:
    """The ledger's name of a metric has the stage before it."""
    for name in (metric_names.class_metric(label, "precision_high"), metric_names.kind_metric(label, "accuracy_high")):
        longest = "evaluate_classifier/" + metric_names.prefixed("leak_free_", name)
        validation._validate_metric(longest, 0.5, 0, 0)
        assert longest.count("/") == 3
        assert longest.isprintable()


def test_readable_labels_stay_as_they_are() -> None:
    for label in ("ham", "Business", "who has", "west-far", "v1.0", "card_arrival", "добро", "日本"):
        assert metric_names.escape(label) == label
    assert metric_names.class_metric("C++ (old)", "recall") == "class/C:2B:2B :28old:29/recall"


def test_a_label_that_was_cut_is_found_among_the_labels_only() -> None:
    name = metric_names.escape("x" * 300)
    assert name.startswith("x" * 100)
    assert metric_names.unescape(name, ["y", "x" * 300]) == "x" * 300
    with pytest.raises(ValueError, match="give the labels of the data"):
        metric_names.unescape(name)


def test_no_label_takes_the_name_of_another_metric() -> None:
    metrics = metrics_of(HARD_LABELS)
    assert len(metrics) == 1 + 3 * (2 + 3 * len(HARD_LABELS))  # rows; value and two ends of the rest
    metrics = metrics_of(["risk", "risk_high", "risk_low", "other"])
    assert (metrics["class/risk/recall"], metrics["class/risk_low/recall"]) == (1.0, 0.0)
    assert metrics["class/risk/recall_low"] not in (0.0, 1.0)


def test_an_evaluation_has_every_metric_of_every_label_also_those_of_the_leak_free_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(classification, "MAX_MEASURED_CLASSES", len(HARD_LABELS))
    test: Any = [{"text": f"text {number}", "label": label} for number, label in enumerate(HARD_LABELS)]
    probabilities = np.eye(len(HARD_LABELS))
    train = [*test[:20], {"text": "other", "label": "risk"}]
    results = classification.evaluate_classifier(
        train, [(train, test)], test, HARD_LABELS, probabilities, str.casefold, uncertainty()
    )
    metrics = results.metrics
    of_classes = [name for name in metrics if name.startswith("class/")]
    assert len(of_classes) == 9 * (len(HARD_LABELS) + len(HARD_LABELS[20:]))  # the first 20 have no leak-free row
    for number, label in enumerate(HARD_LABELS):
        assert metrics[metric_names.class_metric(label, "recall")] == 1.0
        assert (metric_names.class_metric(label, "leak_free_recall_low") in metrics) == (number >= 20)
    for name in metrics:
        validation._validate_metric_name(f"evaluate_classifier/{name}")


def test_every_kind_of_instruction_has_its_accuracy() -> None:
    base = {"instruction": "?", "input": "", "output": "x", "answer": "x", "token_f1": 1.0, "rouge_l": 1.0}
    scores = {"log_likelihood": -1.0, "ended": True, "words": 1, "checkable": True}
    kinds = [label for label in HARD_LABELS if label]
    rows = [cast(AnswerRow, {**base, **scores, "kind": kind, "correct": kind == "risk"}) for kind in kinds]
    metrics = answer_scores(rows, uncertainty())
    found = {name: value for name, value in metrics.items() if name.startswith("kind/")}
    assert len(found) == 3 * len(kinds)
    assert found["kind/risk/accuracy"] == 1.0
    assert found["kind/risk_low/accuracy"] == 0.0


@pytest.mark.parametrize("checkable", ["no", "false", "yes", 1, None, [True], {}])
@pytest.mark.parametrize("kind", [3, 1.5, True, None, [], ["who"], {"who": 1}, ""])
def test_other_values_of_checkable_and_kind_count_as_absent(checkable: object, kind: object) -> None:
    row = {"instruction": "?", "input": "", "output": "x", "answer": "x", "token_f1": 1.0, "rouge_l": 1.0}
    row |= {"log_likelihood": -1.0, "ended": True, "words": 1, "correct": True, "kind": kind}
    metrics = answer_scores([cast(AnswerRow, row | {"checkable": checkable})], uncertainty())
    assert not any(name.startswith(("checkable", "kind")) for name in metrics)
    metrics = answer_scores([cast(AnswerRow, row | {"checkable": True})], uncertainty())
    assert metrics["checkable_rows"] == 1
    assert not any(name.startswith("kind") for name in metrics)


def test_intervals_are_of_metrics_whose_both_ends_are_there() -> None:
    metrics = {"risk": 0.5, "risk_low": 0.4, "risk_high": 0.6, "f1": 0.5, "f1_low": 0.4, "rows_high": 3}
    assert metric_names.intervals(metrics) == {"risk": (0.4, 0.6)}
    own = {f"{name}{end}": 0.0 for name in ("risk_low", "risk_high") for end in ("_low", "_high")}
    assert metric_names.intervals(metrics | own).keys() == {"risk_low", "risk_high"}


def test_150_classes_arrive_in_a_real_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    names = [*HARD_LABELS, *(f"what is {number}?" for number in range(150 - len(HARD_LABELS)))]
    metrics = metrics_of(names)
    store = mlflow_store.open_store()
    run = store.start({"do": "start", "stage": "track", "name": "x", "time": 0})
    events = [
        {"do": "metrics", "key": f"evaluate_classifier/{key}", "value": value, "time": 0, "step": 0}
        for key, value in metrics.items()
    ]
    assert store.write(run, events) == []
    arrived = store.client.get_run(run).data.metrics
    assert arrived == {f"evaluate_classifier/{key}": pytest.approx(value) for key, value in metrics.items()}
