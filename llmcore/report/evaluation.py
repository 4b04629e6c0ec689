"""The screen of `llmcore evaluate`: scores beside those of the baselines, what these learned from, what to mind."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmcore.evaluate.classification import ClassifierResults, against_majority, against_tfidf


@dataclass(frozen=True)
class Facts:
    """What was evaluated: names for people, and what the numbers do not say themselves."""

    model: str
    file: str
    out: str
    confidence: float
    max_tokens: int
    most_frequent: str  # label of the file
    train_file: str  # empty where there is none
    train_rows: int


def evaluation_screen(results: ClassifierResults, facts: Facts) -> str:
    """Return a table of the models and a line for each thing to mind."""
    metrics = results.metrics
    lines = [
        f"{facts.model} on {facts.file}: {metrics['rows']:,} texts, {100 * facts.confidence:g}% intervals",
        "",
        *(f"{name:<14}{accuracy:<24}{macro_f1}".rstrip() for name, accuracy, macro_f1 in _table(results)),
        "",
        against_tfidf(metrics) or against_majority(metrics, facts.most_frequent),
        *_baselines(facts),
        *_notes(metrics, facts),
        f"written to {facts.out}: metrics.json, predictions.csv, errors.csv, models.csv, classes.csv, pictures",
    ]
    return "\n".join(lines)


def score_cell(row: Mapping[str, Any], name: str) -> str:
    """Return a score with its interval: `0.973 [0.950, 0.986]`."""
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def _table(results: ClassifierResults) -> Iterator[tuple[str, str, str]]:
    yield "", "accuracy", "macro F1"
    for row in results.models:
        yield row["model"], score_cell(row, "accuracy"), score_cell(row, "macro_f1")


def _baselines(facts: Facts) -> Iterator[str]:
    if facts.train_file:
        yield f"majority, lookup and tfidf learned from the {facts.train_rows:,} rows of {facts.train_file};"
        yield "the settings of tfidf were chosen on a fifth of them"
    else:
        label = repr(facts.most_frequent)
        yield f"own_majority answers {label} always, the most frequent label of these rows themselves"
        yield "give the training rows with --train FILE for TF-IDF as baseline, and for leaks"


def _notes(metrics: Mapping[str, float], facts: Facts) -> Iterator[str]:
    if leaked := metrics.get("leaked_rows"):
        same = "in all but case, spacing and numbers"
        others = score_cell(metrics, "leak_free_accuracy") if "leak_free_accuracy" in metrics else "none are left"
        yield f"texts that the training rows have too, {same}: {leaked:,}; accuracy on the others: {others}"
    if cut := metrics["cut_rows"]:
        yield f"texts longer than the model's {facts.max_tokens} tokens were cut: {cut:,}"
    if empty := metrics["empty_rows"]:
        yield f"rows without text were left out: {empty:,}"
