"""`llmcore classify`: texts of the command line, of standard input, or of a table."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from llmcore.base.errors import UserError
from llmcore.base.text import checked_input
from llmcore.commands.standard_input import read_standard_input

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

ADDED = """Added to each row of a table: label, probability, and p_CLASS for each class. With more than 20 classes, or
with --top-k, the K likeliest take the place of p_CLASS: label_2, probability_2 and so on. A column of the table that
has such a name is kept as input_NAME. Rows without text get no class."""


def add_classify(commands: "Commands") -> None:
    classify = commands.add_parser("classify", help="classify texts, or the rows of a table", description=ADDED)
    classify.add_argument("texts", nargs="*", metavar="TEXT", help="texts; without any, each line of standard input")
    classify.add_argument("--model", default="models/classifier", metavar="FOLDER", help="(default: %(default)s)")
    classify.add_argument("--file", metavar="FILE", help="a table of texts: .csv, .tsv or .jsonl")
    classify.add_argument("--text-column", default="text", metavar="NAME", help="of the table (default: %(default)s)")
    classify.add_argument("--out", metavar="FILE", help="the table with its classes: .csv, .tsv or .jsonl")
    classify.add_argument("--top-k", type=int, metavar="K", help="classes per row (default: all of up to 20, else 5)")
    classify.set_defaults(run=run_classify)


def run_classify(arguments: argparse.Namespace) -> None:
    if arguments.file is not None:
        classify_table(arguments)
    elif arguments.out is not None or arguments.top_k is not None:
        raise UserError("--out, --top-k: are for the rows of a table, got none; give it with --file")
    else:
        classify_given_texts(arguments)


def classify_given_texts(arguments: argparse.Namespace) -> None:
    if files := [text for text in arguments.texts if os.path.isfile(text)]:
        rule = f"must be a text, got the name of the file {files[0]!r}"
        raise UserError(
            f"TEXT: {rule}; a table: llmcore classify --file FILE --out FILE, lines: llmcore classify < FILE"
        )
    from llmcore.generate.classify import classify_texts
    from llmcore.generate.open import open_classifier

    model, tokenizer = open_classifier(arguments.model)
    texts = arguments.texts or read_standard_input().split("\n")
    texts = [checked_input(text, "TEXT") for text in texts]
    if not all(texts):
        raise UserError("TEXT: must not be empty; give texts as arguments or lines of standard input")
    probabilities = classify_texts(model, tokenizer, texts, batch_size=32)
    for text, chances in zip(texts, probabilities, strict=True):
        best = int(chances.argmax())
        print(f"{model.labels[best]}\t{chances[best]:.3f}\t{text}")


def classify_table(arguments: argparse.Namespace) -> None:
    if arguments.texts:
        raise UserError(f"--file: must be the only input, got the text {arguments.texts[0]!r} too; leave one out")
    if arguments.out is None:
        raise UserError("--out: must be given with --file, got none; name a file for the rows and their classes")
    if arguments.top_k is not None and arguments.top_k < 1:
        raise UserError(f"--top-k: must be positive, got {arguments.top_k}; correct it")
    from llmcore.run.classify_file import classify_file

    file, out = Path(arguments.file), Path(arguments.out)
    print(classify_file(Path(arguments.model), file, arguments.text_column, out, arguments.top_k))
