"""Test the classifier. in: models/classifier, data/spam | params: seed, evaluate_classifier, compute
out: metrics, plots (confusion matrix, every prediction)."""

from pathlib import Path
from typing import Any

import numpy as np

from llmcore import tracking
from llmcore.compute import Machine, set_up
from llmcore.data.split import same_message
from llmcore.evaluate.baselines import tfidf_baseline
from llmcore.evaluate.scores import (
    average_precision,
    bootstrap_macro_f1,
    classification_metrics,
    confusion_counts,
    roc_auc,
    wilson,
)
from llmcore.files import fresh_folder, read_jsonl, sha256_file, write_json
from llmcore.model.classifier_folder import load_classifier
from llmcore.model.folder import WEIGHTS_FILE
from llmcore.params import read_params
from llmcore.report.figures import confusion_matrix, write_csv
from llmcore.seeds import numpy_generator
from llmcore.serve.predict import classify_texts
from llmcore.tokenizer.bpe import load_tokenizer
from stages.common import report, run

Row = dict[str, Any]


def main(argv: list[str]) -> None:
    model_folder, data, metrics_file, plots = map(Path, argv)
    params = read_params()
    section, machine = params.evaluate_classifier, set_up(params.compute)
    with tracking.run("evaluate_classifier", params, ["seed", "evaluate_classifier", "compute"]) as tracker:
        tracker.set_tags({"model_sha256": sha256_file(model_folder / WEIGHTS_FILE)})
        train, test = list(read_jsonl(data / "train.jsonl")), list(read_jsonl(data / "test.jsonl"))
        labels, probabilities = classify(model_folder, test, section.batch_size, machine)
        predicted = [labels[index] for index in probabilities.argmax(-1)]
        actual = [row["label"] for row in test]
        metrics = {
            **classification_metrics(actual, predicted, labels),
            **intervals(actual, predicted, labels, section.confidence, numpy_generator(params.seed, "bootstrap")),
            **ranking(actual, probabilities, labels),
            **baselines(train, test),
            **leak_free(train, test, predicted, section.confidence),
        }
        rows = [
            {"text": row["text"], "label": row["label"], "predicted": guess}
            | {f"p_{label}": round(float(p), 6) for label, p in zip(labels, chances, strict=True)}
            for row, guess, chances in zip(test, predicted, probabilities, strict=True)
        ]
        write_json(metrics_file, metrics)
        write_csv(fresh_folder(plots) / "predictions.csv", rows)
        confusion_matrix(plots / "confusion.png", confusion_counts(actual, predicted, labels).tolist(), labels)
        tracker.log_table(rows[:200], "predictions.json")
        report(tracker, metrics, plots)


def classify(folder: Path, rows: list[Row], batch_size: int, machine: Machine) -> tuple[list[str], np.ndarray]:
    """Return the classes and the probability of each for each row: (rows, labels)."""
    model = load_classifier(folder).to(machine.device)
    texts = [row["text"] for row in rows]
    with machine.autocast():
        found = classify_texts(model, load_tokenizer(folder), texts, batch_size=batch_size)
    return model.labels, found.numpy()


def intervals(
    actual: list[str], predicted: list[str], labels: list[str], confidence: float, generator: np.random.Generator
) -> dict[str, float]:
    """Return where accuracy and macro F1 may lie, given that the test set is a sample."""
    right = sum(a == p for a, p in zip(actual, predicted, strict=True))
    low, high = wilson(right, len(actual), confidence)
    f1_low, f1_high = bootstrap_macro_f1(confusion_counts(actual, predicted, labels), confidence, generator)
    return {"accuracy_low": low, "accuracy_high": high, "macro_f1_low": f1_low, "macro_f1_high": f1_high}


def ranking(actual: list[str], probabilities: np.ndarray, labels: list[str]) -> dict[str, float]:
    """Return how well the probability of the second class orders the rows, where there are two classes."""
    if len(labels) != 2 or len(set(actual)) != 2:
        return {}
    positive, scores = [label == labels[1] for label in actual], probabilities[:, 1].tolist()
    return {"roc_auc": roc_auc(positive, scores), "average_precision": average_precision(positive, scores)}


def baselines(train: list[Row], test: list[Row]) -> dict[str, float]:
    """Return what word counts reach on the same rows and, in the built-in world, what nobody can exceed."""
    guesses = tfidf_baseline([row["text"] for row in train], [row["label"] for row in train], [r["text"] for r in test])
    reached = {"tfidf_accuracy": sum(g == row["label"] for g, row in zip(guesses, test, strict=True)) / len(test)}
    if "p_spam" not in test[0]:
        return reached
    return reached | {"best_possible_accuracy": sum(max(row["p_spam"], 1 - row["p_spam"]) for row in test) / len(test)}


def leak_free(train: list[Row], test: list[Row], predicted: list[str], confidence: float) -> dict[str, float]:
    """Return the accuracy on the test rows that no training row repeats, and their number."""
    seen = {same_message(row["text"]) for row in train}
    fresh = [
        (row["label"], guess)
        for row, guess in zip(test, predicted, strict=True)
        if same_message(row["text"]) not in seen
    ]
    right = sum(label == guess for label, guess in fresh)
    low, high = wilson(right, len(fresh), confidence)
    metrics = {"leak_free_rows": len(fresh), "leak_free_accuracy_low": low, "leak_free_accuracy_high": high}
    return metrics | ({"leak_free_accuracy": right / len(fresh)} if fresh else {})


if __name__ == "__main__":
    run(main)
