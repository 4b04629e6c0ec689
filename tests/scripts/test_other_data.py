"""Data of other kinds pass through the stages without a change of code."""

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from structure import ROOT
from workspace import enter_project

from llmcore.base.files import read_json, read_jsonl
from llmcore.base.seeds import torch_generator
from llmcore.evaluate.classification import MAX_MEASURED_CLASSES
from llmcore.evaluate.metric_names import class_metric
from llmcore.model.folder import save_language_model
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.tokenizer.bpe import BytePairTokenizer
from stages import (
    download,
    evaluate_classifier,
    evaluate_instruct,
    finetune_classifier,
    finetune_instruct,
    prepare_instructions,
    prepare_spam,
)

pytestmark = pytest.mark.slow

Rows = list[dict[str, Any]]
SCRIPTS = ["мяч красный", "赤いボールがある", "الكرة حمراء", "ลูกบอลสีแดง", "빨간 공", "🎈🎈 a̐é"]
CONTEXT = 64


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: GPT2Config, tokenizer: BytePairTokenizer) -> Path:
    """A project with a tiny base and small numbers, no tracking."""
    enter_project(tmp_path, monkeypatch)
    base = new_model(GPT2Config(**{**vars(config), "context_length": CONTEXT}))
    base.initialise(torch_generator(0, "initialise"))
    save_language_model("base", base, tokenizer=tokenizer, origin={})
    set_params(
        classifier={"epochs": 1, "max_tokens": CONTEXT, "eval_interval_steps": 1000, "class_weights": "balanced"},
        spam={"split": "grouped", "balance": "none"},
        instructions={"split": "grouped", "val_fraction": 0.2, "test_fraction": 0.2},
        instruct={"epochs": 1, "max_tokens": CONTEXT, "eval_interval_steps": 1000},
        evaluate_instruct={"max_new_tokens": 4},
        runtime={"progress": False, "tracking": False},
    )
    return tmp_path


def set_params(**sections: dict[str, Any]) -> None:
    """Change sections of params.yaml, the committed one at first."""
    file = Path("params.yaml") if Path("params.yaml").exists() else ROOT / "params.yaml"
    params = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    for name, values in sections.items():
        params[name].update(values)
    with open("params.yaml", "w", encoding="utf-8") as out:
        YAML(typ="safe").dump(params, out)


def source(item: str, path: str) -> None:
    sources = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))["sources"]
    set_params(sources={item: sources[item] | {"kind": "local", "path": path}})


def jsonl(rows: Rows) -> tuple[str, str]:
    return "own.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows: Rows) -> tuple[str, str]:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["text", "label"])
    writer.writeheader()
    writer.writerows(rows)
    return "own.csv", text.getvalue()


def words(number: int) -> str:
    return " ".join(random.Random(number).choices("ball bell garden cat Anna Ben now you have won".split(), k=9))


def four_classes() -> tuple[str, str]:
    return table([{"text": words(n), "label": ["north", "east", "south", "west, far"][n % 4]} for n in range(80)])


def twenty_unbalanced_classes() -> tuple[str, str]:
    """From 6 rows to 101."""
    rows = [(label, row) for label in range(20) for row in range(6 + 5 * label)]
    return jsonl([{"text": words(1000 * label + row), "label": f"class {label}"} for label, row in rows])


def integer_labels() -> tuple[str, str]:
    return jsonl([{"text": words(n), "label": n % 3} for n in range(60)])


def lengths_from_1_to_10000() -> tuple[str, str]:
    letters = "abcdefghijklmnopqrstuvwxyz!?"
    rows = [{"text": letter, "label": "ham"} for letter in letters]
    return table(rows + [{"text": letter * 10_000, "label": "spam"} for letter in letters])


def many_scripts() -> tuple[str, str]:
    rows = [(n, script) for n in range(12) for script in SCRIPTS]
    return jsonl([{"text": f"{script} {words(n)}", "label": "добро" if n % 2 else "悪い"} for n, script in rows])


KINDS: dict[str, tuple[Callable[[], tuple[str, str]], list[str]]] = {
    "four classes": (four_classes, ["east", "north", "south", "west, far"]),
    "twenty unbalanced": (twenty_unbalanced_classes, sorted(f"class {label}" for label in range(20))),
    "integer labels": (integer_labels, ["0", "1", "2"]),
    "lengths": (lengths_from_1_to_10000, ["ham", "spam"]),
    "scripts": (many_scripts, ["добро", "悪い"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labelled_texts_of_other_kinds_are_classified_and_evaluated(project: Path, kind: str) -> None:
    write, labels = KINDS[kind]
    name, text = write()
    (project / name).write_text(text, encoding="utf-8", newline="")
    source("spam", name)
    download.main(["spam", "raw", "d.json"])
    prepare_spam.main(["raw", "data", "p.json", "tables"])
    finetune_classifier.main(["base", "data", "model", "f.json", "tables"])
    evaluate_classifier.main(["model", "data", "e.json", "tables"])

    assert list(read_json("model/config.json")["label2id"]) == sorted(labels)
    metrics, test = read_json("e.json"), list(read_jsonl("data/test.jsonl"))
    with open("tables/predictions.csv", encoding="utf-8", newline="") as lines:
        predictions = list(csv.DictReader(lines))
    assert [row["text"] for row in predictions] == [row["text"] for row in test]
    assert {row["predicted"] for row in predictions} <= set(labels)
    assert metrics["rows"] == len(test)
    with open("tables/classes.csv", encoding="utf-8", newline="") as lines:
        scores = {row["class"]: float(row["f1"]) for row in csv.DictReader(lines)}
    assert sorted(scores) == labels
    for name in (class_metric(label, "f1") for label in labels if len(labels) <= MAX_MEASURED_CLASSES):
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
    assert ("roc_auc" in metrics) == (len(labels) == 2)
    assert {"majority_accuracy", "lookup_accuracy", "tfidf_accuracy", "gain_over_tfidf"} <= metrics.keys()


def test_instructions_in_other_scripts_packed_in_the_phi3_form(project: Path) -> None:
    rows = [{"instruction": f"{n} {script}", "output": script} for n in range(8) for script in SCRIPTS]
    rows.append({"instruction": "long " * 200, "output": "x"})
    (project / "own.jsonl").write_text(jsonl(rows)[1], encoding="utf-8")
    source("instructions", "own.jsonl")
    set_params(instruct={"prompt": "phi3", "packing": True, "too_long": "drop", "max_tokens": CONTEXT})
    download.main(["instructions", "raw", "d.json"])
    prepare_instructions.main(["raw", "data", "p.json", "tables"])
    finetune_instruct.main(["base", "data", "model", "f.json", "tables"])
    evaluate_instruct.main(["model", "data", "e.json", "tables", "judgements.jsonl"])

    tuned, metrics = read_json("f.json"), read_json("e.json")
    assert tuned["packed_rows"] <= tuned["train_rows"]
    assert tuned["truncated_rows"] == 0
    assert read_json("model/config.json")["prompt_form"] == "phi3"
    assert metrics["rows"] == len(list(read_jsonl("data/test.jsonl")))
    assert metrics["reference_log_likelihood"] < 0
    assert not Path("judgements.jsonl").exists()
