"""Pictures and pages of a stage, made from the tables that it wrote: nothing is computed or trained again."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llmcore.base.files import fresh_folder, read_csv, read_json, read_jsonl, write_text
from llmcore.config.kinds import MODEL_KINDS
from llmcore.report import figures
from llmcore.report.audit_page import audit_page
from llmcore.report.card import model_card

Metrics = Mapping[str, Any]
PAGE_TITLES = {"prepare_spam": "Texts and classes", "prepare_instructions": "Instructions"}


def draw_report(stage: str, metrics: Metrics, tables: Path, plots: Path) -> None:
    """Draw what the tables of a stage hold into the folder `plots`, made empty first."""
    fresh_folder(plots)
    for name, draw in DRAWN.items():
        if (tables / name).is_file():
            draw(stage, metrics, tables / name, plots)


def draw_steps(stage: str, metrics: Metrics, table: Path, plots: Path) -> None:
    steps = _numbers(table)
    evaluations = _numbers(table.with_name("evaluations.csv"))
    per_token, per_byte = metrics.get("val/loss"), metrics.get("val/nats_per_byte")
    figures.loss_curves(
        plots / "loss.png",
        steps,
        evaluations,
        floor=metrics.get("floor_nats_per_token"),
        unit="nats per text" if stage == "finetune_classifier" else "nats per token",
        bytes_per_token=per_token / per_byte if per_token and per_byte else None,
    )
    figures.learning_rate(plots / "lr.png", steps)


def draw_lengths(stage: str, metrics: Metrics, table: Path, plots: Path) -> None:
    lengths: dict[str, list[int]] = {}
    for row in read_csv(table):
        lengths.setdefault(row["split"], []).append(int(row["tokens"]))
    limit = read_json(table.with_name("card.json"))["params"]["max_tokens"]
    figures.length_histogram(plots / "lengths.png", lengths, limit=limit)


def draw_batch(stage: str, metrics: Metrics, table: Path, plots: Path) -> None:
    rows = [(row["title"], [(text, kind) for text, kind in row["pieces"]]) for row in read_jsonl(table)]
    figures.batch_rows(plots / "batch.png", rows, title="First batch")


def draw_token_probabilities(stage: str, metrics: Metrics, table: Path, plots: Path) -> None:
    rows = read_csv(table)
    tokens = [row["token"] for row in rows]
    figures.token_probabilities(plots / "token_probabilities.png", tokens, [float(row["probability"]) for row in rows])


def draw_attention(stage: str, metrics: Metrics, table: Path, plots: Path) -> None:
    rows = read_csv(table)
    tokens = [row.pop("token") for row in rows]
    weights = [[float(value) for value in row.values()] for row in rows]
    figures.attention_map(plots / "attention.png", weights, tokens, title="Last block, mean of its heads")


def draw_confusion(stage: str, metrics: Metrics, table: Path, plots: Path) -> None:
    rows = read_csv(table)
    labels = [column.removeprefix("p_") for column in rows[0] if column.startswith("p_")]
    if not labels:  # of many classes only two probabilities are written
        labels = sorted({row[key] for row in rows for key in ("label", "predicted")})
    number = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for row in rows:
        counts[number[row["label"]], number[row["predicted"]]] += 1
    figures.confusion_matrix(plots / "confusion.png", counts, labels)
    if len(labels) > figures.MAX_NAMED_CLASSES:
        figures.confused_pairs(plots / "confused_pairs.png", counts, labels)


def draw_classes(stage: str, metrics: Metrics, table: Path, plots: Path) -> None:
    rows = [
        {key: value if key in ("class", "rows") else float(value) for key, value in row.items()}
        for row in read_csv(table)
    ]
    figures.class_scores(plots / "classes.png", rows)


def write_audit_page(stage: str, metrics: Metrics, table: Path, plots: Path) -> None:
    write_text(plots / "audit.html", audit_page(PAGE_TITLES[stage], read_json(table)))


def write_card(stage: str, metrics: Metrics, table: Path, plots: Path) -> None:
    [kind] = [name for name, entry in MODEL_KINDS.items() if entry.stage == stage]
    write_text(plots / "card.md", model_card(kind, read_json(table), metrics))


DRAWN: dict[str, Callable[[str, Metrics, Path, Path], None]] = {  # the file of a table -> what is made of it
    "steps.csv": draw_steps,
    "lengths.csv": draw_lengths,
    "batch.jsonl": draw_batch,
    "sample_tokens.csv": draw_token_probabilities,
    "attention.csv": draw_attention,
    "predictions.csv": draw_confusion,
    "classes.csv": draw_classes,
    "audit.json": write_audit_page,
    "card.json": write_card,
}


def _numbers(table: Path) -> list[dict[str, float | None]]:
    return [{key: float(value) if value else None for key, value in row.items()} for row in read_csv(table)]
