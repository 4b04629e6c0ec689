"""The numbers of the README are those of the committed metrics."""

import json
import re

import pytest
from structure import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
COLUMNS = ("ours", "baseline", "upper bound")  # after the task

# task -> the stage of its metrics, and the form of each cell; the upper bound may go on in words after a comma
RESULTS = {
    "stories": (
        "pretrain",
        ("{val/nats_per_byte:.3f} ({above_floor:.1%} above the bound)", "", "{floor_nats_per_byte:.3f}"),
    ),
    "messages": (
        "evaluate_classifier",
        (
            "{accuracy:.1%} [{accuracy_low:.1%}, {accuracy_high:.1%}]",
            "TF-IDF {tfidf_accuracy:.1%}, majority class {majority_accuracy:.1%}",
            "{best_possible_accuracy:.1%}",
        ),
    ),
    "instructions": (
        "evaluate_instruct",
        (
            "{exact_match:.1%} [{exact_match_low:.1%}, {exact_match_high:.1%}]",
            "lookup {lookup_exact_match:.1%}",
            "100%",
        ),
    ),
}


def metrics(stage: str) -> dict[str, float]:
    return json.loads((ROOT / "reports" / stage / "metrics.json").read_text())


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def results_table(text: str) -> dict[str, tuple[str, ...]]:
    """Return the rows of the table with the COLUMNS, by the first word of the task."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("|") and tuple(cells(line)[1:]) == COLUMNS:
            break
    next(lines)  # the rule under the header
    rows: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if not line.startswith("|"):
            break
        task, *values = cells(line)
        rows[re.split(r"\W", task)[0]] = tuple(values)
    return rows


def test_parser_reads_the_rows_of_the_table() -> None:
    table = "text\n\n| a | b |\n|---|---|\n| x | y |\n\n| task | ours | baseline | upper bound |\n|---|---|---|---|\n"
    assert results_table(table + "| stories: loss | 1 | | 2, a bound |\n\n| stories | 7 |") == {
        "stories": ("1", "", "2, a bound")
    }


def test_table_of_results_has_a_row_for_each_task() -> None:
    assert list(results_table(README)) == list(RESULTS)


@pytest.mark.parametrize("task", RESULTS)
def test_row_of_the_table_is_made_of_the_committed_metrics(task: str) -> None:
    """Each cell is the text of RESULTS with the metrics filled in: ours with its interval, baselines, upper bound."""
    stage, forms = RESULTS[task]
    ours, baseline, bound = (form.format_map(metrics(stage)) for form in forms)
    shown = results_table(README)[task]
    assert shown[:2] == (ours, baseline)
    assert shown[2].partition(",")[0] == bound


def test_results_over_seeds_are_those_of_the_table() -> None:
    """For each column, median and range stand in the README in this order."""
    lines = (ROOT / "reports/seeds.md").read_text(encoding="utf-8").splitlines()
    rows = {name: columns for name, *columns in map(cells, lines)}
    prose = " ".join(README.split())
    for median, extent in list(zip(rows["median"], rows["range"], strict=True))[:3]:
        assert re.search(rf"{re.escape(median)}[^0-9%]*\({re.escape(extent)}\)", prose)


def test_size_of_the_quickstart_model_is_the_committed_one() -> None:
    assert f"{metrics('pretrain')['parameters']:,} parameters" in README
