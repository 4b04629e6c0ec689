"""One screen about everything that was built: `python -m llmcore.report.summary`."""

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmcore.base.errors import UserError, run_entry_point
from llmcore.base.files import read_csv, read_json, read_jsonl, read_yaml
from llmcore.base.seeds import numpy_generator
from llmcore.config.stages import STAGES, report_folder
from llmcore.evaluate.answers import is_checkable, kind_of
from llmcore.evaluate.classification import against_tfidf
from llmcore.evaluate.metric_names import intervals

WIDTH = 98
NAME_WIDTH = 24
MAX_TEXT_LINES = 5  # of a sample
MAX_EXAMPLES = 5  # of a task
MAX_EXAMPLE_LINES = 2

Row = Mapping[str, Any]


def summary(root: str | Path = ".") -> str:
    """Return metrics of each stage and examples of what each model does, at most 100 columns wide.

    Reads `reports/` below `root`; stages that are not built yet are listed. `<metric>_low` and
    `<metric>_high` are shown as the interval of `<metric>`. The seed of params.yaml draws the examples.
    """
    reports = Path(root) / "reports"
    seed = _seed(Path(root))
    parts = [
        _heading("Results"),
        *_results(reports),
        _heading("The pretrained model writes"),
        *_sample(reports / "pretrain/tables/sample.txt"),
        _heading("The classifier sorts messages of the test, each with the share right of its class"),
        *_messages(reports / "evaluate_classifier/tables/predictions.csv", numpy_generator(seed, "messages shown")),
        _heading("The instruction model answers the test, each with the share right of its kind"),
        *_answers(reports / "evaluate_instruct/tables/answers.jsonl", numpy_generator(seed, "answers shown")),
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
    found = intervals(metrics)
    ends = {f"{name}{end}" for name in found for end in ("_low", "_high")}
    cells = {name: _number(value) for name, value in metrics.items() if name not in ends}
    for name, (low, high) in found.items():
        cells[name] += f" [{_number(low)}, {_number(high)}]"
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


def _messages(file: Path, generator: np.random.Generator) -> Iterator[str]:
    """Show a message of each of some classes, and what the classifier makes of it."""
    if not file.is_file():
        yield _not_built("evaluate_classifier")
        return
    rows = read_csv(file)
    for label, row, of_label in _examples(rows, [row["label"] for row in rows], generator):
        right = sum(other["predicted"] == label for other in of_label)
        yield from _indented(row["text"], lines=MAX_EXAMPLE_LINES)
        chance = row.get("probability") or row.get(f"p_{row['predicted']}")
        sure = f" ({float(chance):.0%})" if chance else ""
        verdict = "" if row["predicted"] == label else f", wrongly: {_name(label)}"
        yield from _indented(f"-> {_name(row['predicted'])}{sure}{verdict}", indent=4)
        yield from _indented(f"{_name(label)}: {_share(right, len(of_label))} right", indent=7)


def _answers(file: Path, generator: np.random.Generator) -> Iterator[str]:
    """Show an answer to each of some kinds of instruction."""
    if not file.is_file():
        yield _not_built("evaluate_instruct")
        return
    rows = list(read_jsonl(file))
    for kind, row, of_kind in _examples(rows, [kind_of(row) for row in rows], generator):
        yield from _indented(row["instruction"], lines=MAX_EXAMPLE_LINES)
        if row["input"]:
            yield from _indented(row["input"], lines=MAX_EXAMPLE_LINES)
        checkable = [other for other in of_kind if is_checkable(other)]
        scored, word = (checkable, "right") if checkable else (of_kind, "word for word as expected")
        right = sum(bool(other["correct"]) for other in scored)
        verdict = "" if row["correct"] else f"   (expected: {_flat_text(row['output'])})"
        yield from _indented(f"-> {_flat_text(row['answer'])}{verdict}", indent=4, lines=MAX_EXAMPLE_LINES)
        yield from _indented(f"{_name(kind)}: {_share(right, len(scored))} {word}", indent=7)


def _examples(
    rows: Sequence[Row], kinds: Sequence[str | None], generator: np.random.Generator
) -> Iterator[tuple[str | None, Row, list[Row]]]:
    """Yield at most MAX_EXAMPLES of (kind, a row, all rows of the kind), drawn whether right or wrong.

    Each is of another kind; where no row has a kind, they are different rows.
    """
    by_kind: dict[str | None, list[Row]] = {}
    for row, kind in zip(rows, kinds, strict=True):
        by_kind.setdefault(kind, []).append(row)
    names = sorted(by_kind, key=lambda kind: (kind is None, kind or ""))
    if names == [None]:
        for place in sorted(generator.permutation(len(rows))[:MAX_EXAMPLES].tolist()):
            yield None, rows[place], by_kind[None]
        return
    for number in sorted(generator.permutation(len(names))[:MAX_EXAMPLES].tolist()):
        of_kind = by_kind[names[number]]
        yield names[number], of_kind[int(generator.integers(len(of_kind)))], of_kind


def _share(right: int, total: int) -> str:
    return f"{right / total:.0%} of {total:,}"


def _name(label: str | None) -> str:
    """Return a class or kind short enough for a line; "all" for rows without a kind."""
    return "all" if label is None else textwrap.shorten(_flat_text(label), 40, placeholder="...") or repr(label)


def _seed(root: Path) -> int:
    """Return the seed of params.yaml, 0 where it cannot be read: the last screen never fails for it."""
    try:
        seed = read_yaml(root / "params.yaml")["seed"]
    except (UserError, OSError, KeyError, TypeError):
        return 0
    return seed if isinstance(seed, int) else 0


def _heading(title: str) -> str:
    return f"\n{title}\n{'-' * len(title)}"


def _not_built(stage: str) -> str:
    return f"  not built yet: dvc repro {stage}"


def _indented(text: str, indent: int = 2, lines: int = MAX_TEXT_LINES) -> list[str]:
    """Wrap text, keeping its line ends; show the first lines, and no control character."""
    width = WIDTH - indent
    beginning = text.strip()[: 2 * WIDTH * (lines + 1)]  # wrapping megabytes takes seconds
    plain = ("".join(c if c.isprintable() else " " for c in line) for line in beginning.splitlines())
    wrapped = [part for line in plain for part in textwrap.wrap(line, width) or [""]]
    shown = wrapped[:lines] + (["..."] if len(wrapped) > lines else [])
    return [" " * indent + line for line in shown]


def _flat_text(text: str) -> str:
    return " ".join(text.split())


def main() -> None:
    print(summary(), end="")


if __name__ == "__main__":
    sys.exit(run_entry_point(main, prints_result=True))
