"""Test the classifier. in: models/classifier, data/spam | params: seed, evaluate_classifier, compute
out: metrics, plots (confusion matrix, every prediction)."""

from pathlib import Path
from typing import Any

import numpy as np

from llmcore import tracking
from llmcore.compute import Machine, set_up
from llmcore.data.split import same_message
from llmcore.evaluate.classification import leak_free, ranking, scores, tfidf_accuracy
from llmcore.evaluate.scores import confusion_counts
from llmcore.files import fresh_folder, read_jsonl, sha256_file, write_csv, write_json
from llmcore.model.folder import WEIGHTS_FILE
from llmcore.params import read_params
from llmcore.report.figures import confusion_matrix
from llmcore.seeds import numpy_generator
from llmcore.serve.classify import classify_texts
from llmcore.serve.open import open_classifier
from stages.common import TABLE_ROWS, run, track_results

Row = dict[str, Any]


def main(argv: list[str]) -> None:
    model_folder, data, metrics_file, plots = map(Path, argv)
    params = read_params()
    section, machine = params.evaluate_classifier, set_up(params.compute)
    with tracking.run("evaluate_classifier", params, ["seed", "evaluate_classifier", "compute"]) as tracker:
        tracker.set_tags({"model_sha256": sha256_file(model_folder / WEIGHTS_FILE)})
        train, test = list(read_jsonl(data / "train.jsonl")), list(read_jsonl(data / "test.jsonl"))
        texts, actual = columns(test)
        labels, probabilities = classify(model_folder, texts, section.batch_size, machine)
        predicted = [labels[index] for index in probabilities.argmax(-1)]
        seen = {same_message(row["text"]) for row in train}
        leaked = [same_message(text) in seen for text in texts]
        generator = numpy_generator(params.seed, "bootstrap")
        metrics = {
            **scores(actual, predicted, labels, section.confidence, generator),
            **ranking(actual, probabilities, labels),
            **leak_free(actual, predicted, leaked, section.confidence),
            "tfidf_accuracy": tfidf_accuracy(*columns(train), texts, actual),
            **best_possible(test),
        }
        rows = [
            {"text": text, "label": label, "predicted": guess}
            | {f"p_{name}": round(float(p), 6) for name, p in zip(labels, chances, strict=True)}
            for text, label, guess, chances in zip(texts, actual, predicted, probabilities, strict=True)
        ]
        write_json(metrics_file, metrics)
        write_csv(fresh_folder(plots) / "predictions.csv", rows)
        confusion_matrix(plots / "confusion.png", confusion_counts(actual, predicted, labels).tolist(), labels)
        tracker.log_table(rows[:TABLE_ROWS], "predictions.json")
        track_results(tracker, metrics, plots)


def classify(folder: Path, texts: list[str], batch_size: int, machine: Machine) -> tuple[list[str], np.ndarray]:
    """Return the classes and the probability of each for each text: (texts, labels)."""
    model, tokenizer = open_classifier(folder)
    model.to(machine.device)
    with machine.autocast():
        return model.labels, classify_texts(model, tokenizer, texts, batch_size=batch_size).numpy()


def columns(rows: list[Row]) -> tuple[list[str], list[str]]:
    """Return the texts and the labels of some rows."""
    return [row["text"] for row in rows], [row["label"] for row in rows]


def best_possible(rows: list[Row]) -> dict[str, float]:
    """Return the accuracy that nobody can exceed, where the source knows each text's chance to be spam."""
    if "p_spam" not in rows[0]:
        return {}
    return {"best_possible_accuracy": sum(max(row["p_spam"], 1 - row["p_spam"]) for row in rows) / len(rows)}


if __name__ == "__main__":
    run(main)
