"""`llmcore evaluate`: test a model on any file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_evaluate(commands: "Commands") -> None:
    evaluate = commands.add_parser("evaluate", help="test a classifier on labelled rows, a language model on a text")
    evaluate.add_argument("model", metavar="MODEL", help="a classifier's folder, or a language model's")
    forms = "a labelled table (.csv, .tsv, .jsonl); for a language model a text (.txt, .jsonl)"
    evaluate.add_argument("file", metavar="FILE", help=forms)
    for kind in ("text", "label"):
        evaluate.add_argument(f"--{kind}-column", default=kind, metavar="NAME", help="(default: %(default)s)")
    learned = "the table that the classifier has learned from, for baselines and leaks"
    evaluate.add_argument("--train", metavar="FILE", help=learned)
    evaluate.add_argument("--out", metavar="FOLDER", help="(default: reports/evaluate/MODEL-FILE, their names)")
    evaluate.add_argument("--confidence", type=float, default=0.95, metavar="C", help="(default: %(default)s)")
    evaluate.set_defaults(run=run_evaluate)


def run_evaluate(arguments: argparse.Namespace) -> None:
    from llmcore.evaluate.compare import check_confidence
    from llmcore.run.evaluate_file import evaluate_file

    check_confidence(arguments.confidence)
    file = Path(arguments.file)
    out = Path(arguments.out or f"reports/evaluate/{Path(arguments.model).resolve().name}-{file.stem}")
    columns = (arguments.text_column, arguments.label_column)
    train = Path(arguments.train) if arguments.train else None
    print(evaluate_file(Path(arguments.model), file, columns, train, out, arguments.confidence))
