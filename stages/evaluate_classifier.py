"""Test the classifier. in: models/classifier, data/spam | params: seed, evaluate_classifier, compute
out: metrics, tables (every prediction, the most confident errors, the model beside its baselines, each class)."""

from pathlib import Path

from llmcore.base import parallel
from llmcore.base.files import write_csv
from llmcore.config.read import read_params
from llmcore.data.split import SPLITS, normalise_message
from llmcore.evaluate.classification import against_tfidf, evaluate_classifier
from llmcore.generate.classify import classify_texts
from llmcore.generate.open import open_classifier
from llmcore.run.evaluation import evaluation_run, read_rows, track_tables, uncertainty_of, write_metrics
from llmcore.train.compute import setup_compute


def main(argv: list[str]) -> None:
    model_folder, data, metrics_file, tables = map(Path, argv)
    params = read_params()
    section = params.evaluate_classifier
    compute = setup_compute(params.compute)
    with evaluation_run("evaluate_classifier", params, model_folder) as tracker:
        model, tokenizer = open_classifier(model_folder)
        model.to(compute.device)
        train, val, test = (read_rows(data, split) for split in SPLITS)
        with compute.autocast():
            texts = [row["text"] for row in test]
            probabilities = classify_texts(model, tokenizer, texts, batch_size=section.batch_size).numpy()
        parallel.leave_to_first()
        uncertainty = uncertainty_of(params, section.confidence)
        folds = [(train, val)]
        results = evaluate_classifier(train, folds, test, model.labels, probabilities, normalise_message, uncertainty)
        write_metrics(tracker, results.metrics, metrics_file, tables)
        rows = {name: getattr(results, name) for name in ("predictions", "errors", "models", "classes")}
        for name, table in rows.items():
            write_csv(tables / f"{name}.csv", table)
        track_tables(tracker, tables / "predictions.csv", rows)
    print(against_tfidf(results.metrics))
