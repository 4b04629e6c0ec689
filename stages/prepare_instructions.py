"""Prepare instructions. in: data/raw/instructions | params: seed, instructions
out: data/instructions (splits, audit), metrics, plots (the audit as a page)."""

import dataclasses
from pathlib import Path

from llmcore.base.files import fresh_folder, read_json, sha256_folder, write_json, write_jsonl, write_text
from llmcore.base.origin import read_source, write_source
from llmcore.config.params import read_params
from llmcore.data.audit import FAULTS, Entry, audit_splits
from llmcore.data.instructions import complete_rows, prompt_key, split_rows
from llmcore.data.reading import read_alpaca
from llmcore.report.audit_page import audit_lines, audit_page
from llmcore.tracking import tracker as tracking


def main(argv: list[str]) -> None:
    raw, out, metrics_path, plots = map(Path, argv)
    params = read_params()
    wanted = params.instructions
    meta = read_json(raw / "meta.json")
    with tracking.run("prepare_instructions", params, ["seed", "instructions"]) as tracker:
        rows, empty_rows = complete_rows(read_alpaca(raw / meta["file"]))
        parts = split_rows(rows, wanted.split, wanted.val_fraction, wanted.test_fraction, params.seed)
        entries = {name: [as_entry(row) for row in part] for name, part in parts.items()}
        audit = audit_splits(entries, [fault for fault in FAULTS if fault != "swallowed_lines"])
        metrics = audit.metrics | {"empty_rows": empty_rows}

        folder = fresh_folder(out)
        for name, part in parts.items():
            write_jsonl(folder / f"{name}.jsonl", part)
        write_source(folder, read_source(raw))
        found = dataclasses.asdict(audit) | {"metrics": metrics}
        write_json(folder / "audit.json", found)
        write_text(fresh_folder(plots) / "audit.html", audit_page("Instructions", found))
        write_json(metrics_path, metrics)
        tracker.log_metrics(metrics)
        tracker.log_artifact(folder / "audit.json")
        tracker.log_artifact(plots / "audit.html")
        tracker.log_dataset("instructions", meta["kind"], sha256_folder(folder))
    print("\n".join([*audit_lines(metrics), f"The audit: {(plots / 'audit.html').as_posix()}"]))


def as_entry(row: dict) -> Entry:
    """Audit what is asked: equal prompts leak, whatever their answers; unequal answers are the conflict."""
    return Entry(f"{row['instruction']}\n{row['input']}", prompt_key(row), row["output"])
