"""Draw a stage's pictures and pages. in: reports/<stage>/tables, its metrics | params: none | out: plots."""

from pathlib import Path

from llmcore.base.files import read_json
from llmcore.report.draw import draw_report


def main(argv: list[str]) -> None:
    stage, metrics_file, tables, plots = argv
    draw_report(stage, read_json(metrics_file), Path(tables), Path(plots))
