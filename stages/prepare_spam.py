"""Prepare spam. in: data/raw/spam | params: seed, spam | out: data/spam (splits, meta, audit), metrics,
plots (the audit as a page)."""

import dataclasses
from pathlib import Path

from llmcore.base.files import fresh_folder, read_json, sha256_folder, write_json, write_jsonl, write_text
from llmcore.base.origin import read_source, write_source
from llmcore.config.params import read_params
from llmcore.data.audit import Entry, audit_splits, class_counts
from llmcore.data.reading import read_table
from llmcore.data.spam import messages, split_messages
from llmcore.data.split import same_message
from llmcore.report.audit_page import audit_lines, audit_page
from llmcore.tracking import tracker as tracking


def main(argv: list[str]) -> None:
    raw, out, metrics_path, plots = map(Path, argv)
    params = read_params()
    wanted = params.spam
    meta = read_json(raw / "meta.json")
    own = meta["kind"] == "local"
    with tracking.run("prepare_spam", params, ["seed", "spam"]) as tracker:
        # The book reads its file with the default quoting of pandas, which swallows two messages.
        sms = meta["kind"] == "sms-spam"
        table = read_table(raw / meta["file"], quoting=not sms or wanted.split == "book")
        text_column, label_column = (wanted.text_column, wanted.label_column) if own else ("text", "label")
        frame, empty_rows = messages(table, text_column, label_column, ["p_spam"] if meta["kind"] == "world" else [])
        parts = split_messages(
            frame, wanted.split, wanted.balance, wanted.val_fraction, wanted.test_fraction, params.seed
        )
        rows = {name: [as_row(row) for row in part.to_dict("records")] for name, part in parts.items()}
        entries = {
            name: [Entry(row["text"], same_message(row["text"]), row["label"]) for row in part]
            for name, part in rows.items()
        }
        audit, classes = audit_splits(entries), class_counts(entries)
        counts = {"read_rows": len(table), "empty_rows": empty_rows, "rows": sum(map(len, rows.values()))}
        metrics = audit.metrics | counts | {"classes": len(classes["train"])}
        if sms:
            metrics["swallowed_rows"] = len(read_table(raw / meta["file"], quoting=False)) - len(table)

        folder = fresh_folder(out)
        for name, part in rows.items():
            write_jsonl(folder / f"{name}.jsonl", part)
        write_json(folder / "meta.json", {"labels": sorted(classes["train"]), "rows": classes})
        write_source(folder, read_source(raw))
        found = dataclasses.asdict(audit) | {"metrics": metrics, "classes": classes}
        write_json(folder / "audit.json", found)
        write_text(fresh_folder(plots) / "audit.html", audit_page("Messages", found))
        write_json(metrics_path, metrics)
        tracker.log_metrics(metrics)
        tracker.log_artifact(folder / "audit.json")
        tracker.log_artifact(plots / "audit.html")
        tracker.log_dataset("spam", meta["kind"], sha256_folder(folder))
    print("\n".join([*audit_lines(metrics), f"The audit: {(plots / 'audit.html').as_posix()}"]))


def as_row(record: dict) -> dict:
    """Numbers come from the table as text; the world's `p_spam` is one."""
    return record | ({"p_spam": float(record["p_spam"])} if "p_spam" in record else {})
