"""`llmcore classify --file`: every row comes out, with the classes that the model gives its text."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llmcore.cli import main
from llmcore.data.table_rows import table_rows
from llmcore.generate.classify import classify_texts
from llmcore.generate.open import open_classifier
from llmcore.run.classify_file import CHUNK_ROWS, DEFAULT_TOP_K, class_cells

Classifier = Callable[..., Path]
MAX_TOKENS = 12  # of the fixture's classifier
WORDS = ["Anna", "has", "the", "red", "ball", "Tom", "won", "now!"]


@pytest.fixture
def llmcore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, list[str]]]:
    """Run `llmcore classify --model classifier` in a folder of its own; exit code, output, lines of errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, list[str]]:
        code = main(["classify", "--model", "classifier", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, [line for line in printed.err.splitlines() if line.startswith("error: ")]

    return call


Command = Callable[..., tuple[int, str, list[str]]]


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)


def random_rows(n_rows: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    return [
        {"id": str(number), "text": " ".join(draw.choice(WORDS, draw.integers(1, 12))), "note": 'a, "b"\nc'}
        for number in range(n_rows)
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_each_row_keeps_its_columns_and_gets_the_classes_of_its_text(
    llmcore: Command, classifier: Classifier, suffix: str
) -> None:
    """More rows than are read at a time, in order; the probabilities are those of `classify_texts`."""
    folder = classifier("ham", "spam", "other")
    rows = random_rows(2 * CHUNK_ROWS + 5)
    write_table(Path(f"in{suffix}"), rows)
    code, _, errors = llmcore("--file", f"in{suffix}", "--out", f"out{suffix}")
    assert (code, errors) == (0, [])
    found = list(table_rows(Path(f"out{suffix}")))
    assert [{key: row[key] for key in ("id", "text", "note")} for row in found] == rows
    assert list(found[0]) == ["id", "text", "note", "label", "probability", "p_ham", "p_spam", "p_other"]
    model, tokenizer = open_classifier(folder)
    expected = classify_texts(model, tokenizer, [row["text"] for row in rows], batch_size=32).numpy()
    chances = np.array([[float(row[f"p_{label}"]) for label in model.labels] for row in found])
    assert np.allclose(chances, expected, atol=2e-6)
    assert [row["label"] for row in found] == [model.labels[place] for place in expected.argmax(-1)]
    assert np.allclose([float(row["probability"]) for row in found], expected.max(-1), atol=2e-6)


def test_the_form_of_the_result_is_that_of_its_name(llmcore: Command, classifier: Classifier) -> None:
    classifier("ham", "spam")
    write_table(Path("in.jsonl"), [{"text": "hi", "tags": ["x"]}, {"text": "you", "n": 1}])
    assert llmcore("--file", "in.jsonl", "--out", "out.csv")[0] == 0
    first, second = table_rows(Path("out.csv"))
    assert (first["tags"], first["n"], second["tags"], second["n"]) == ('["x"]', "", "", "1")
    assert llmcore("--file", "in.jsonl", "--out", "out.jsonl")[0] == 0
    first, second = table_rows(Path("out.jsonl"))
    assert (first["tags"], second["n"], "n" in first) == (["x"], 1, False)
    assert isinstance(first["probability"], float)


def test_long_and_empty_texts_are_counted(llmcore: Command, classifier: Classifier) -> None:
    classifier("ham", "spam")
    rows: list[dict[str, Any]] = [
        {"text": "ball " * 40},
        {"text": " "},
        {"text": "hi"},
        {"text": None},
        {"text": "now! " * 40},
    ]
    times = CHUNK_ROWS // len(rows) + 1  # so that some are in a second part
    write_table(Path("in.jsonl"), rows * times)
    code, out, _ = llmcore("--file", "in.jsonl", "--out", "out.jsonl")
    assert code == 0
    assert f"texts longer than the model's {MAX_TOKENS} tokens were cut: {2 * times}" in out.splitlines()
    assert f"texts that are empty got no class: {2 * times}" in out.splitlines()
    found = list(table_rows(Path("out.jsonl")))[:5]
    assert [row["label"] is None for row in found] == [False, True, False, True, False]
    assert [row["p_ham"] is None for row in found] == [False, True, False, True, False]


def test_a_text_of_exactly_max_tokens_is_not_cut(llmcore: Command, classifier: Classifier) -> None:
    _, tokenizer = open_classifier(classifier("ham", "spam"))
    text = tokenizer.decode(tokenizer.encode("Anna has the red ball. " * 9)[:MAX_TOKENS])
    assert len(tokenizer.encode(text)) == MAX_TOKENS
    write_table(Path("in.csv"), [{"text": text}])
    assert "were cut" not in llmcore("--file", "in.csv", "--out", "out.csv")[1]


def test_columns_with_the_name_of_an_added_one_are_kept_under_another(llmcore: Command, classifier: Classifier) -> None:
    classifier("ham", "spam")
    write_table(Path("in.csv"), [{"label": "mine", "text": "hi", "p_ham": "0.1"}])
    code, out, _ = llmcore("--file", "in.csv", "--out", "out.csv")
    assert code == 0
    assert out.splitlines()[-1].endswith("renamed: label -> input_label, p_ham -> input_p_ham")
    [row] = table_rows(Path("out.csv"))
    assert list(row) == ["input_label", "text", "input_p_ham", "label", "probability", "p_ham", "p_spam"]
    assert (row["input_label"], row["input_p_ham"]) == ("mine", "0.1")
    assert row["label"] in ("ham", "spam")


def test_a_column_that_cannot_be_renamed_is_refused(llmcore: Command, classifier: Classifier) -> None:
    classifier("ham", "spam")
    write_table(Path("in.csv"), [{"label": "mine", "text": "hi", "input_label": "x"}])
    [error] = llmcore("--file", "in.csv", "--out", "out.csv")[2]
    assert error.startswith("error: in.csv: the column 'label' would be written as 'input_label', which there is too;")
    assert not Path("out.csv").exists()


@pytest.mark.parametrize(("n_labels", "top_k"), [(21, None), (3, 2), (3, 9), (3, 1)])
def test_of_many_classes_the_likeliest_are_written(
    llmcore: Command, classifier: Classifier, n_labels: int, top_k: int | None
) -> None:
    classifier(*(f"c{number}" for number in range(n_labels)))
    write_table(Path("in.csv"), random_rows(3))
    assert llmcore("--file", "in.csv", "--out", "out.csv", *(["--top-k", str(top_k)] if top_k else []))[0] == 0
    places = range(2, min(top_k or DEFAULT_TOP_K, n_labels) + 1)
    names = ["label", "probability", *(f"{name}_{place}" for place in places for name in ("label", "probability"))]
    for row in table_rows(Path("out.csv")):
        assert list(row) == ["id", "text", "note", *names]
        chances = [float(row[name]) for name in names[1::2]]
        assert chances == sorted(chances, reverse=True)
        assert len({row[name] for name in names[::2]}) == len(places) + 1


def test_equal_probabilities_keep_the_order_of_the_classes() -> None:
    cells = class_cells(["a", "b", "c"], np.array([0.3, 0.4, 0.3]), top_k=3)
    assert [cells["label"], cells["label_2"], cells["label_3"]] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("--file in.csv", "--out: must be given with --file, got none; name a file for the rows and their classes"),
        ("--out o.csv hi", "--out, --top-k: are for the rows of a table, got none; give it with --file"),
        ("hi --file in.csv --out o.csv", "--file: must be the only input, got the text 'hi' too; leave one out"),
        ("--file in.csv --out o.csv --top-k 0", "--top-k: must be positive, got 0; correct it"),
        ("--file in.csv --out in.csv", "--out: must be another file than --file, got 'in.csv' as both; choose another"),
        ("--file in.csv --out link.csv", "--out: must be another file than --file, got 'link.csv' as both; choose"),
        ("--file in.csv --out classifier", "--out: must be a file, got the folder 'classifier'; add a file's name"),
        ("--file in.csv --out o.txt", "o.txt: must end in .csv, .tsv or .jsonl, got 'o.txt'"),
        ("--file none.csv --out o.csv", "none.csv: no such file;"),
        ("--file in.csv --out o.csv --text-column body", "in.csv, row 1: must have the column 'body', has only 'id', "),
        ("--file empty.csv --out o.csv", "empty.csv: must have text in 'text', got empty texts alone;"),
        ("--file lists.jsonl --out o.csv", "lists.jsonl, row 2: 'text' must be a string, got a list; correct the row"),
        ("hi in.csv", "TEXT: must be a text, got the name of the file 'in.csv'; a table: llmcore classify --file FILE"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    llmcore: Command, classifier: Classifier, arguments: str, error: str
) -> None:
    classifier("ham", "spam")
    write_table(Path("in.csv"), random_rows(2))
    write_table(Path("empty.csv"), [{"id": "1", "text": " "}])
    write_table(Path("lists.jsonl"), [{"text": "hi"}, {"text": ["hi"]}])
    os.symlink("in.csv", "link.csv")
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    code, out, errors = llmcore(*arguments.split())
    assert (code, out, len(errors)) == (2, "", 1)
    assert errors[0].startswith(f"error: {error}")
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def test_a_mistake_in_the_last_row_is_found_before_the_model_is_opened(llmcore: Command, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,n\n" + "hi,1\n" * 300 + "hi\n")
    [error] = llmcore("--file", "in.csv", "--out", "out.csv", "--model", "none")[2]
    assert error.startswith("error: in.csv, line 302: must have 2 fields as the header has, got 1")


def test_progress_has_a_rate_and_the_time_that_is_left(
    classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "in.csv", random_rows(CHUNK_ROWS + 1))
    files = ["--file", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")]
    assert main(["classify", "--model", str(classifier("ham", "spam")), *files]) == 0
    last = capsys.readouterr().err.split("\r")[-1]
    assert f"{CHUNK_ROWS + 1}/{CHUNK_ROWS + 1}" in last
    assert "texts/s" in last


def test_a_failing_model_leaves_an_older_result(classifier: Classifier, llmcore: Command) -> None:
    weights = classifier("ham", "spam") / "model.safetensors"
    tensors = load_file(weights)
    tensors["score.weight"] = torch.full_like(tensors["score.weight"], 3e38)
    save_file(tensors, weights, metadata={"format": "pt"})
    write_table(Path("in.csv"), random_rows(2))
    Path("out.csv").write_text("old")
    code, _, [error] = llmcore("--file", "in.csv", "--out", "out.csv")
    assert (code, "must be finite" in error, Path("out.csv").read_text()) == (2, True, "old")
    assert [path.name for path in Path().iterdir() if path.name.startswith(".tmp")] == []
