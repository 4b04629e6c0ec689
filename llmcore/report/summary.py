"""One screen about everything that was built: `python -m llmcore.report.summary`."""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llmcore.base.files import read_csv, read_json, read_jsonl
from llmcore.config.stages import STAGES, report_folder
from llmcore.evaluate.classification import against_tfidf

WIDTH = 98
NAME_WIDTH = 24
MAX_TEXT_LINES = 5  # of a sample


def summary(root: str | Path = ".") -> str:
    """Return metrics of each stage and an example of what each model does, at most 100 columns wide.

    Reads `reports/` below `root`; stages that are not built yet are listed. `<metric>_low` and
    `<metric>_high` are shown as the interval of `<metric>`.
    """
    reports = Path(root) / "reports"
    parts = [
        _heading("Results"),
        *_results(reports),
        _heading("The pretrained model writes"),
        *_sample(reports / "pretrain/tables/sample.txt"),
        _heading("The classifier"),
        *_messages(reports / "evaluate_classifier/tables/predictions.csv"),
        _heading("The instruction model answers"),
        *_answers(reports / "evaluate_instruct/tables/answers.jsonl"),
        _heading("Next"),
        "  make ui                            compare the runs in MLflow, in the browser",
        "  dvc metrics diff, dvc plots diff   compare with the last commit",
        "  edit params.yaml, then dvc repro   build again what depends on the change",
    ]
    return "\n".join(parts) + "\n"


def _results(reports: Path) -> Iterator[str]:
    missing = []
    for name, entry in STAGES.items():
        if not entry.shown:
            continue
        stage = report_folder(name)
        file = reports / stage / "metrics.json"
        if not file.is_file():
            missing.append(stage)
            continue
        metrics = _cells(read_json(file))
        cells = [f"{key} {metrics[key]}" for key in entry.shown if key in metrics]
        lines = _flow(cells, WIDTH - NAME_WIDTH)
        yield f"  {stage:{NAME_WIDTH - 2}}{lines[0]}".rstrip()
        yield from (" " * NAME_WIDTH + line for line in lines[1:])
        if stage == "evaluate_classifier" and (sentence := against_tfidf(read_json(file))):
            yield from textwrap.wrap(
                sentence, WIDTH, initial_indent=" " * NAME_WIDTH, subsequent_indent=" " * NAME_WIDTH
            )
    if missing:
        yield from _indented("not built yet: " + ", ".join(missing))


def _flow(cells: list[str], width: int) -> list[str]:
    """Put cells side by side, as many on a line as fit whole."""
    solid = [cell.replace(" ", "\0") for cell in cells]
    lines = textwrap.wrap("   ".join(solid), width, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines] or [""]


def _cells(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return metrics as text, an interval beside its value: `{"accuracy": "0.98 [0.96, 0.99]"}`."""
    cells = {}
    for name, value in metrics.items():
        stem, _, end = name.rpartition("_")
        if end in ("low", "high") and stem in metrics:
            continue
        cells[name] = _number(value)
        if f"{name}_low" in metrics and f"{name}_high" in metrics:
            cells[name] += f" [{_number(metrics[f'{name}_low'])}, {_number(metrics[f'{name}_high'])}]"
    return cells


def _number(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _sample(file: Path) -> Iterator[str]:
    if not file.is_file():
        yield _not_built("pretrain")
        return
    yield from _indented(file.read_text(encoding="utf-8"))


def _messages(file: Path) -> Iterator[str]:
    """Show the first message of each class."""
    if not file.is_file():
        yield _not_built("evaluate_classifier")
        return
    for row in {row["label"]: row for row in reversed(read_csv(file))}.values():
        chance = row.get(f"p_{row['predicted']}")
        sure = f" ({float(chance):.0%})" if chance else ""
        yield from _indented(row["text"])
        verdict = "" if row["predicted"] == row["label"] else f", wrongly: {row['label']}"
        yield f"    -> {row['predicted']}{sure}{verdict}"


def _answers(file: Path) -> Iterator[str]:
    """Show the first two answers of different kinds."""
    if not file.is_file():
        yield _not_built("evaluate_instruct")
        return
    rows = {row.get("kind"): row for row in reversed(list(read_jsonl(file)))}
    for row in list(reversed(rows.values()))[:2]:
        yield from _indented(row["instruction"])
        if row["input"]:
            yield from _indented(row["input"])
        verdict = "" if row["correct"] or not row.get("checkable") else f"   (expected: {_flat_text(row['output'])})"
        yield from _indented(f"-> {_flat_text(row['answer'])}{verdict}", indent=4)


def _heading(title: str) -> str:
    return f"\n{title}\n{'-' * len(title)}"


def _not_built(stage: str) -> str:
    return f"  not built yet: dvc repro {stage}"


def _indented(text: str, indent: int = 2) -> list[str]:
    """Wrap text, keeping its line ends; show the first lines, and no control character."""
    width = WIDTH - indent
    plain = ("".join(c if c.isprintable() else " " for c in line) for line in text.strip().splitlines())
    lines = [part for line in plain for part in textwrap.wrap(line, width) or [""]]
    shown = lines[:MAX_TEXT_LINES] + (["..."] if len(lines) > MAX_TEXT_LINES else [])
    return [" " * indent + line for line in shown]


def _flat_text(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    print(summary(), end="")
