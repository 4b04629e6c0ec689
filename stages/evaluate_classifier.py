"""Test the classifier. in: models/classifier, data/spam | params: seed, evaluate_classifier, compute
out: metrics, plots (confusion matrix, every prediction, the surest mistakes, the baselines)."""

from pathlib import Path
from typing import Any

import numpy as np

from llmcore.base.files import fresh_folder, read_jsonl, sha256_file, write_csv, write_json
from llmcore.base.seeds import numpy_generator
from llmcore.config.params import read_params
from llmcore.data.split import same_message
from llmcore.evaluate.classification import (
    Uncertainty,
    against_tfidf,
    baselines,
    compared,
    confident_mistakes,
    ranking,
    scores,
    table_of_models,
)
from llmcore.evaluate.compare import RESULTS_FOLDER
from llmcore.evaluate.scores import confusion_counts
from llmcore.generate.classify import classify_texts
from llmcore.generate.open import open_classifier
from llmcore.model.folder import WEIGHTS_FILE
from llmcore.report.figures import confusion_matrix
from llmcore.run.progress import TABLE_ROWS, track_results
from llmcore.tracking import tracker as tracking
from llmcore.train.compute import Machine, set_up

Row = dict[str, Any]


def main(argv: list[str]) -> None:
    model_folder, data, metrics_file, plots = map(Path, argv)
    params = read_params()
    section, machine = params.evaluate_classifier, set_up(params.compute)
    with tracking.run("evaluate_classifier", params, ["seed", "evaluate_classifier", "compute"]) as tracker:
        digest = sha256_file(model_folder / WEIGHTS_FILE)
        tracker.set_tags({"model_sha256": digest})
        tracker.link_run("finetune_classifier", "model_sha256", digest)
        train, test = list(read_jsonl(data / "train.jsonl")), list(read_jsonl(data / "test.jsonl"))
        texts, actual = columns(test)
        labels, probabilities = classify(model_folder, texts, section.batch_size, machine)
        predicted = [labels[index] for index in probabilities.argmax(-1)]
        seen = {same_message(row["text"]) for row in train}
        leaked = [same_message(text) in seen for text in texts]
        guesses = baselines(*columns(train), texts)
        uncertainty = Uncertainty(section.confidence, numpy_generator(params.seed, "bootstrap"))

        def measure(chosen: list[int]) -> dict[str, float]:
            """Return the metrics of some test rows."""
            truth, named = [actual[row] for row in chosen], [predicted[row] for row in chosen]
            simple = {name: [guessed[row] for row in chosen] for name, guessed in guesses.items()}
            return {
                **scores(truth, named, labels, uncertainty),
                **ranking(truth, probabilities[chosen], labels, uncertainty),
                **compared(truth, named, simple, labels, uncertainty),
            }

        clean = [row for row, leak in enumerate(leaked) if not leak]
        metrics = measure(list(range(len(test)))) | {"leaked_rows": sum(leaked)} | best_possible(test)
        if clean and any(leaked):
            metrics |= {f"leak_free_{key}": value for key, value in measure(clean).items()}
        rows = [
            {"text": text, "label": label, "predicted": guess}
            | {f"p_{name}": round(float(p), 6) for name, p in zip(labels, chances, strict=True)}
            for text, label, guess, chances in zip(texts, actual, predicted, probabilities, strict=True)
        ]
        mistakes, models = confident_mistakes(rows), table_of_models(metrics, guesses)
        write_json(metrics_file, metrics)
        write_csv(fresh_folder(plots) / "predictions.csv", rows)
        write_csv(plots / "mistakes.csv", mistakes)
        write_csv(plots / "models.csv", models)
        confusion_matrix(plots / "confusion.png", confusion_counts(actual, predicted, labels).tolist(), labels)
        for name, table in (("predictions", rows[:TABLE_ROWS]), ("mistakes", mistakes), ("models", models)):
            tracker.log_table(table, f"{name}.json")
        tracker.log_artifact(plots / "predictions.csv", RESULTS_FOLDER)
        track_results(tracker, metrics, plots)
    print(against_tfidf(metrics))


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
