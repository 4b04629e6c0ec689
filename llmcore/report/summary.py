"""One screen about everything that was built: `python -m llmcore.report.summary`."""

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmcore.base.errors import UserError, run_entry_point
from llmcore.base.files import read_bytes, read_csv, read_json, read_jsonl, read_yaml
from llmcore.base.seeds import numpy_generator
from llmcore.config.stages import STAGES, report_folder
from llmcore.evaluate.answers import is_checkable, kind_of
from llmcore.evaluate.classification import against_tfidf, beats_tfidf
from llmcore.evaluate.metric_names import intervals

WIDTH = 98
NAME_WIDTH = 24
MAX_TEXT_LINES = 5  # of a sample
MAX_EXAMPLES = 5  # of a task
MAX_EXAMPLE_LINES = 2
MAX_SHOWN = 40  # characters of a wrong value in its message
MAX_METRIC = 1e300  # no float holds a much larger integer

Row = Mapping[str, Any]


def summary(root: str | Path = ".") -> str:
    """Return metrics of each stage and examples of what each model does, at most 100 columns wide.

    Reads `reports/` below `root`; stages that are not built yet are listed, a damaged report is a UserError
    that names the stage which writes it again. `<metric>_low` and
    `<metric>_high` are shown as the interval of `<metric>`. The seed of params.yaml draws the examples.
    """
    reports = Path(root) / "reports"
    params = _params(Path(root))
    seed = _seed(params)
    parts = [
        _heading("Results"),
        *_results(reports),
        _heading("The pretrained model writes"),
        *_sample(reports / "pretrain/tables/sample.txt"),
        _heading("The classifier sorts texts of the test, each with the share right of its class"),
        *_classified(reports / "evaluate_classifier/tables/predictions.csv", numpy_generator(seed, "messages shown")),
        _heading("The instruction model answers the test, each with the share right of its kind"),
        *_answers(reports / "evaluate_instruct/tables/answers.jsonl", numpy_generator(seed, "answers shown")),
        *_better_than_tfidf(reports / "evaluate_classifier/metrics.json", params),
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
        values = _metrics(file, name)
        metrics = _cells(values)
        cells = [f"{key} {metrics[key]}" for key in entry.shown if key in metrics]
        lines = _flow(cells, WIDTH - NAME_WIDTH)
        yield f"  {stage:{NAME_WIDTH - 2}}{lines[0]}".rstrip()
        yield from (" " * NAME_WIDTH + line for line in lines[1:])
        if stage == "evaluate_classifier" and (sentence := _against_tfidf(values, file, name)):
            yield from textwrap.wrap(
                sentence, WIDTH, initial_indent=" " * NAME_WIDTH, subsequent_indent=" " * NAME_WIDTH
            )
    if missing:
        yield from _indented("not built yet: " + ", ".join(missing))


def _metrics(file: Path, stage: str) -> Mapping[str, float]:
    metrics = read_json(file)
    if not isinstance(metrics, dict):
        raise _damaged(str(file), "must be a JSON object", metrics, stage)
    for name, value in metrics.items():
        if not isinstance(value, int | float) or not abs(value) <= MAX_METRIC:
            raise _damaged(f"{file}, {name!r}", "must be a number", value, stage)
    return metrics


def _against_tfidf(metrics: Mapping[str, float], file: Path, stage: str) -> str:
    try:
        return against_tfidf(metrics)
    except KeyError as error:  # the end of an interval
        raise _damaged(str(file), f"must have {error}", None, stage) from None


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
    try:
        text = read_bytes(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(str(file), "must be UTF-8 text", error.object[error.start : error.end], "pretrain") from None
    yield from _indented(text)


def _classified(file: Path, generator: np.random.Generator) -> Iterator[str]:
    """Show a text of each of some classes, and what the classifier makes of it."""
    if not file.is_file():
        yield _not_built("evaluate_classifier")
        return
    rows = _checked(file, "evaluate_classifier", read_csv(file), ("text", "label", "predicted"))
    for label, row, of_label in _examples(rows, [row["label"] for row in rows], generator):
        right = sum(other["predicted"] == label for other in of_label)
        yield from _indented(row["text"], lines=MAX_EXAMPLE_LINES)
        chance = _chance(row)
        sure = f" ({float(chance):.0%})" if chance else ""
        verdict = "" if row["predicted"] == label else f", wrongly: {_name(label)}"
        yield from _indented(f"-> {_name(row['predicted'])}{sure}{verdict}", indent=4)
        yield from _indented(f"{_name(label)}: {_share(right, len(of_label))} right", indent=7)


def _answers(file: Path, generator: np.random.Generator) -> Iterator[str]:
    """Show an answer to each of some kinds of instruction."""
    if not file.is_file():
        yield _not_built("evaluate_instruct")
        return
    texts = ("instruction", "input", "output", "answer")
    rows = _checked(file, "evaluate_instruct", list(read_jsonl(file)), texts)
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


def _checked(file: Path, stage: str, rows: Sequence[Row], texts: Sequence[str]) -> Sequence[Row]:
    """Return the rows of a table. UserError where one of `texts` is no text, or what else is shown has a wrong type."""
    for number, row in enumerate(rows, start=1):
        where = f"{file}, row {number}"
        for key in texts:
            if not isinstance(row.get(key), str):
                raise _damaged(where, f"{key!r} must be text", row.get(key), stage)
        if "answer" in texts and not isinstance(row.get("correct"), bool):
            raise _damaged(where, "'correct' must be true or false", row.get("correct"), stage)
        if "predicted" in texts and not _is_probability(chance := _chance(row)):
            raise _damaged(where, "the probability must be a number from 0 to 1", chance, stage)
    return rows


def _chance(row: Row) -> Any:
    """Return the probability of the predicted class, as text; empty or None where the table has none."""
    return row.get("probability") or row.get(f"p_{row['predicted']}")


def _is_probability(text: Any) -> bool:
    try:
        return not text or 0 <= float(text) <= 1
    except ValueError:
        return False


def _damaged(where: str, rule: str, value: Any, stage: str) -> UserError:
    got = "nothing" if value is None else repr(value)[:MAX_SHOWN]
    return UserError(f"{where}: {rule}, got {got}; run `dvc repro {stage}` to write it again")


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


def _better_than_tfidf(file: Path, params: Mapping[str, Any]) -> Iterator[str]:
    """Say what to try, with the commands, where the classifier is not shown to beat word counts."""
    if (
        not file.is_file()
        or not against_tfidf(metrics := _metrics(file, "evaluate_classifier"))
        or beats_tfidf(metrics)
    ):
        return
    yield _heading("Word counts are not beaten: what to try")
    own = _at(params, "sources", "spam", "kind") == "local"
    if not str(_at(params, "weights", "path")).startswith("data/raw/weights/"):
        yield f"  llmcore preset {'classify-own' if own else 'smollm2-sms':<20}a base that has read the web: SmolLM2"
    epochs = _at(params, "classifier", "epochs")
    longer = f"{2 * epochs:g}" if isinstance(epochs, int | float) else "more"
    yield f"  classifier.epochs: {longer:<16}in params.yaml: train longer"
    yield "  weights.path: FOLDER               in params.yaml: a larger base, or one of your own language"
    yield "  dvc repro evaluate_classifier      then train and test the classifier again"
    yield "  errors it is surest of, often wrong labels: reports/evaluate_classifier/tables/errors.csv"


def _params(root: Path) -> Mapping[str, Any]:
    """Return params.yaml unchecked, empty where it cannot be read: the last screen never fails for it."""
    try:
        params = read_yaml(root / "params.yaml")
    except (UserError, OSError):
        return {}
    return params if isinstance(params, dict) else {}


def _at(params: Any, *keys: str) -> Any:
    """Return the value at a path of keys, None where there is none."""
    for key in keys:
        params = params.get(key) if isinstance(params, dict) else None
    return params


def _seed(params: Mapping[str, Any]) -> int:
    seed = _at(params, "seed")
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
