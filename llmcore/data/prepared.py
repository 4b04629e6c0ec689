"""Prepared data: rows divided into splits, with their audit, and the files of data/spam and data/instructions."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from llmcore.base.files import fresh_folder, write_json, write_jsonl
from llmcore.base.origin import Source, write_source
from llmcore.base.rows import InstructionRow, LabelledRow
from llmcore.data.audit import Audit

Row = TypeVar("Row", LabelledRow, InstructionRow)


@dataclass(frozen=True)
class Prepared(Generic[Row]):
    """Rows by split, their audit, their classes, and the metrics of the stage that prepares them."""

    splits: dict[str, list[Row]]
    audit: Audit
    classes: dict[str, dict[str, int]]  # rows per split and class; empty where rows have no classes
    metrics: dict[str, float]  # those of the audit and further counts


def audit_json(prepared: Prepared[Any]) -> dict[str, Any]:
    """Return the content of audit.json: `metrics`, the listed cases, and `classes` where rows have classes."""
    content = dataclasses.asdict(prepared.audit) | {"metrics": prepared.metrics}
    return content | ({"classes": prepared.classes} if prepared.classes else {})


def write_prepared(folder: str | Path, prepared: Prepared[Any], source: Source) -> None:
    """Write a fresh data folder: `<split>.jsonl`, `source.json`, and `meta.json` where rows have classes."""
    folder = fresh_folder(folder)
    for name, rows in prepared.splits.items():
        write_jsonl(folder / f"{name}.jsonl", rows)
    if prepared.classes:
        write_json(folder / "meta.json", {"labels": sorted(prepared.classes["train"]), "rows": prepared.classes})
    write_source(folder, source)
