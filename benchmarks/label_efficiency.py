"""How many labels a base saves: F1 on one test set against the number of labels, beside tuned word counts.

    python -m benchmarks.label_efficiency --data data/spam --base models/base

`--data` is a prepared split (`dvc repro prepare_spam`), `--base` any folder that `finetune_classifier` takes; without
it only word counts are measured. Each seed draws its own labels from train, those of a small number among those of a
larger. TF-IDF chooses its C by cross-validation of the same labels; the classifier trains as the params say, but
`--steps` steps at least, because an epoch of a hundred labels is six. Its last weights are taken, so no label validates
it. Of two classes F1 is that of the second in alphabetical order (spam), of more their mean. A row is written to
`<out>.csv` as soon as it is measured, and a run that is started again goes on behind it; `<out>.png` draws all.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GroupKFold

from llmcore.base.files import read_csv, read_json, write_csv
from llmcore.base.origin import read_source
from llmcore.base.rows import LabelledRow
from llmcore.base.seeds import numpy_generator
from llmcore.config.params import Params
from llmcore.config.read import read_params
from llmcore.data.split import normalise_message
from llmcore.evaluate.baselines import choose_tfidf, tfidf_predictions
from llmcore.generate.classify import classify_texts
from llmcore.generate.open import open_language_model
from llmcore.model.lora import frozen_in_bf16
from llmcore.report.drawing import BLUE, ORANGE, drawing
from llmcore.run.evaluation import read_rows
from llmcore.run.finetune import Base
from llmcore.train.compute import Compute, setup_compute
from llmcore.train.history import History
from llmcore.train.loop import fit
from stages.finetune_classifier import set_up

LABELS = (100, 300, 600)  # and all there are
SEEDS = (1, 2, 3)
FOLDS = 5
MAX_VAL_ROWS = 16  # an evaluation decides nothing here
WORD_COUNTS = "TF-IDF, tuned"
KEY = ("method", "labels", "seed")

Rows = list[LabelledRow]


def draw_labels(train: Rows, n_labels: int, seed: int) -> Rows:
    """Return `n_labels` rows, the first of an order that the seed draws."""
    order = numpy_generator(seed, "labels").permutation(len(train))[:n_labels]
    return [train[row] for row in order]


def word_counts(rows: Rows, test_texts: Sequence[str], seed: int) -> list[str]:
    """Train on `rows`, with a C chosen by folds of them; equal texts are in one fold."""
    groups = [normalise_message(row["text"]) for row in rows]
    parts = GroupKFold(FOLDS, shuffle=True, random_state=seed).split(groups, groups=groups)
    folds = [([rows[row] for row in train], [rows[row] for row in val]) for train, val in parts]
    return tfidf_predictions(rows, test_texts, choose_tfidf(folds))


def fine_tuned(
    rows: Rows,
    test_texts: Sequence[str],
    seed: int,
    *,
    params: Params,
    compute: Compute,
    base: Path,
    data: Path,
    steps: int,
) -> list[str]:
    """Fine-tune the base on `rows` as `finetune_classifier` does; return the classes of the test texts."""
    section = params.classifier
    epochs = max(section.epochs, steps * section.batch_size / len(rows))
    section = section.model_copy(update={"epochs": epochs, "keep_checkpoint": "last", "early_stopping_patience": 0})
    params = params.model_copy(update={"seed": seed})
    model, tokenizer = open_language_model(base, dropout=section.dropout)
    splits = {"train": rows, "val": read_rows(data, "val")[:MAX_VAL_ROWS]}
    tuning = set_up(Base(params, section, compute, model, tokenizer, data, splits))
    classifier: Any = tuning.model
    frozen = frozen_in_bf16(classifier, lambda: open_language_model(base)[0].state_dict())
    with frozen if compute.is_bf16 else nullcontext():
        fit(classifier, tuning.task, section, seed=seed, compute=compute, callback=History())
        with compute.autocast():
            batch_size = params.evaluate_classifier.batch_size
            chances = classify_texts(classifier.eval(), tokenizer, test_texts, batch_size=batch_size)
    return [classifier.labels[place] for place in chances.argmax(-1).tolist()]


def measure(data: Path, base: Path | None, params: Params, steps: int, done: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Yield a row per method, number of labels and seed, those that are done left out."""
    known = {tuple(str(row[key]) for key in KEY) for row in done}
    train, test = read_rows(data, "train"), read_rows(data, "test")
    classes = read_json(data / "meta.json")["labels"]
    texts, actual = [row["text"] for row in test], [row["label"] for row in test]
    methods: dict[str, Any] = {WORD_COUNTS: word_counts}
    if base:
        compute = setup_compute(params.compute)
        methods[f"{read_source(base).kind}, LoRA"] = lambda rows, texts, seed: fine_tuned(
            rows, texts, seed, params=params, compute=compute, base=base, data=data, steps=steps
        )
    for method, predict in methods.items():
        for n_labels in (*(n for n in LABELS if n < len(train)), len(train)):
            for seed in SEEDS:
                if (method, str(n_labels), str(seed)) in known:
                    continue
                begin = time.perf_counter()
                predicted = predict(draw_labels(train, n_labels, seed), texts, seed)
                yield {
                    **dict(zip(KEY, (method, n_labels, seed), strict=True)),
                    "f1": f1_of(actual, predicted, classes),
                    "accuracy": float(accuracy_score(actual, predicted)),
                    "seconds": round(time.perf_counter() - begin, 1),
                }


def f1_of(actual: Sequence[str], predicted: Sequence[str], classes: Sequence[str]) -> float:
    """Return F1 of the second of two classes, the mean of more."""
    scores = f1_score(actual, predicted, labels=classes, average=None, zero_division=0)
    return float(scores[1] if len(classes) == 2 else scores.mean())


def draw(path: Path, rows: Sequence[Any]) -> None:
    """Draw F1 against labels: the mean over seeds, in a band from the lowest to the highest."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    with drawing(path, (7, 4.5)) as figure:
        axes = figure.add_subplot(title="What a label is worth", xlabel="labels, logarithmic", ylabel="F1 on the test")
        axes.set_xscale("log")
        for method, colour in zip(methods, (BLUE, ORANGE), strict=False):
            found: dict[int, list[float]] = {}
            for row in rows:
                if row["method"] == method:
                    found.setdefault(int(row["labels"]), []).append(float(row["f1"]))
            labels = sorted(found)
            axes.plot(labels, [np.mean(found[n]) for n in labels], color=colour, marker="o", label=method)
            low, high = ([end(found[n]) for n in labels] for end in (min, max))
            axes.fill_between(labels, low, high, color=colour, alpha=0.2, lw=0)
        ticks = sorted({int(row["labels"]) for row in rows})
        axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
        axes.set_xticks([], minor=True)
        axes.legend(loc="lower right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/spam"), help="a prepared split")
    parser.add_argument("--base", type=Path, help="a model folder; without it only word counts are measured")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="of the fine-tuning")
    parser.add_argument("--steps", type=int, default=72, help="at least this number, however few the labels")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/label_efficiency"), help="without suffix")
    arguments = parser.parse_args()
    table = arguments.out.with_suffix(".csv")
    rows: list[Any] = list(read_csv(table)) if table.exists() else []
    for row in measure(arguments.data, arguments.base, read_params(arguments.params), arguments.steps, rows):
        print(row, flush=True)
        rows.append(row)
        write_csv(table, rows)
    draw(arguments.out.with_suffix(".png"), rows)


if __name__ == "__main__":
    main()
