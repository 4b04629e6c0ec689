"""The one table of stages: tracking, the summary and the ledger read it; `kinds.py` has that of models."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """What is known of a stage beside its code."""

    experiment: str  # of its runs in MLflow
    params: tuple[str, ...]  # the sections of params.yaml that it reads
    shown: tuple[str, ...] = ()  # metrics on the last screen
    description: str = ""  # of a run, filled with its final metrics


AUDIT = ("train_rows", "val_rows", "test_rows", "test_near_train", "label_conflicts")
BASELINES = ("majority_accuracy", "lookup_accuracy", "tfidf_accuracy", "best_possible_accuracy")
LEAKS = ("leaked_rows", "leak_free_accuracy", "leak_free_tfidf_accuracy")
PREPARED = (
    "{train_rows:,} training rows, {val_rows:,} for validation, {test_rows:,} for the test; "
    "{test_near_train:,} of these have a near duplicate in train."
)

STAGES = {
    "download@text": Stage("data", ("sources.text",), ("documents", "bytes"), "{bytes:,} bytes."),
    "download@spam": Stage("data", ("sources.spam",), ("rows", "bytes"), "{bytes:,} bytes."),
    "download@instructions": Stage("data", ("sources.instructions",), ("rows", "bytes"), "{bytes:,} bytes."),
    "download@tokenizer": Stage("data", ("sources.tokenizer",), (), "{bytes:,} bytes."),
    "download_weights": Stage("data", (), (), "{bytes:,} bytes."),
    "tokenize": Stage(
        "data",
        ("tokenizer",),
        ("tokens", "vocab_size", "bytes_per_token"),
        "{documents:,} documents are {tokens:,} tokens from a vocabulary of {vocab_size:,}: "
        "{bytes_per_token:.2f} bytes per token.",
    ),
    "sample": Stage(
        "data",
        ("sample",),
        ("train_windows", "val_windows", "train_tokens", "val_tokens"),
        "{train_windows:,} windows for training, {val_windows:,} for validation.",
    ),
    "pretrain": Stage(
        "pretrain",
        ("seed", "model", "pretrain", "compute"),
        ("parameters", "steps", "val/loss", "val/nats_per_byte", "floor_nats_per_byte", "above_floor"),
        "A model of {parameters:,} parameters after {best_step:,} steps: a validation loss of {val/loss:.4f} nats per "
        "token, {val/nats_per_byte:.4f} nats per byte.",
    ),
    "export_html": Stage(
        "export",
        (),
        (),
        "A page of {bytes:,} bytes that runs the pretrained model in the browser.",
    ),
    "load_gpt2": Stage(
        "load-gpt2",
        ("weights", "compute"),
        ("parameters", "vocab_size", "val/nats_per_byte"),
        "A base of {parameters:,} parameters: {val/nats_per_byte:.4f} nats per byte of the validation text.",
    ),
    "prepare_spam": Stage("data", ("seed", "spam"), AUDIT, PREPARED),
    "prepare_instructions": Stage("data", ("seed", "instructions"), AUDIT, PREPARED),
    "finetune_classifier": Stage(
        "finetune-classifier",
        ("seed", "classifier", "compute"),
        ("trained_parameters", "steps", "val/loss", "val/accuracy"),
        "{trained_parameters:,} parameters trained on {train_rows:,} texts: {val/accuracy:.1%} of the validation "
        "texts are classified correctly.",
    ),
    "evaluate_classifier": Stage(
        "evaluate-classifier",
        ("seed", "evaluate_classifier", "compute"),
        ("rows", "accuracy", "macro_f1", *BASELINES, *LEAKS),
        "{accuracy:.1%} [{accuracy_low:.1%}, {accuracy_high:.1%}] of {rows:,} test texts are classified correctly; "
        "TF-IDF reaches {tfidf_accuracy:.1%}.",
    ),
    "finetune_instruct": Stage(
        "finetune-instruct",
        ("seed", "instruct", "compute"),
        ("trained_parameters", "steps", "val/loss"),
        "{trained_parameters:,} parameters trained on {train_rows:,} instructions: a validation loss of {val/loss:.4f} "
        "nats per token.",
    ),
    "evaluate_instruct": Stage(
        "evaluate-instruct",
        ("seed", "evaluate_instruct", "compute"),
        ("rows", "exact_match", "checkable_accuracy", "most_frequent_exact_match", "lookup_exact_match"),
        "{exact_match:.1%} [{exact_match_low:.1%}, {exact_match_high:.1%}] of {rows:,} test instructions are answered "
        "word for word; the most frequent answer reaches {most_frequent_exact_match:.1%}.",
    ),
    "track": Stage(
        "pipeline",
        (),  # the ledger logs all of params.yaml
        (),
        "One state of the pipeline: {pretrain/val/nats_per_byte:.4f} nats per byte, {evaluate_classifier/accuracy:.1%} "
        "of texts, {evaluate_instruct/exact_match:.1%} of instructions.",
    ),
}


def stage_info(name: str) -> Stage:
    """Return the row of a stage; of `download_weights@gpt2` that of `download_weights`."""
    return STAGES.get(name) or STAGES[name.partition("@")[0]]


def report_folder(name: str) -> str:
    """Return the folder below reports/ of a stage: `download@text` -> `download_text`."""
    return name.replace("@", "_")


def describe(name: str, metrics: Mapping[str, float]) -> str | None:
    """Return a sentence about a stage's final metrics; None where one of its numbers is missing."""
    try:
        return stage_info(name).description.format_map(metrics) or None
    except KeyError:
        return None
