"""What the pipeline leaves behind: runs in MLflow, folders that other libraries open, nothing of this machine."""

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from structure import stages
from workspace import SMALL, Workspace

from llmcore.base.files import read_csv, read_json, read_jsonl
from llmcore.config.kinds import MODEL_KINDS
from llmcore.config.stages import report_folder
from llmcore.generate.classify import classify_texts
from llmcore.generate.open import open_classifier, open_language_model

pytestmark = pytest.mark.slow


def metrics(workspace: Workspace, stage: str) -> dict[str, float]:
    return json.loads((workspace.folder / "reports" / stage / "metrics.json").read_text())


def runs(workspace: Workspace) -> dict[str, list[str]]:
    """Return the status of each run in the store, by experiment."""
    with sqlite3.connect(workspace.folder / "mlflow.db") as database:
        rows = database.execute(
            "select e.name, r.status from runs r join experiments e using (experiment_id)"
        ).fetchall()
    return {name: [status for experiment, status in rows if experiment == name] for name, _ in rows}


def test_every_stage_is_built(built: Workspace) -> None:
    locked = re.findall(r"^  ([\w@]+):$", (built.folder / "dvc.lock").read_text(), re.MULTILINE)
    assert {name.split("@")[0] for name in locked} == set(stages()) - {"download_weights"}


def test_nothing_to_do_runs_nothing_and_adds_no_run(built: Workspace) -> None:
    built.set_params({"runtime.tracking": True})
    before = runs(built)
    assert built.repro() == []
    assert runs(built) == before
    built.set_params(SMALL)


def test_git_sees_neither_data_nor_models(built: Workspace) -> None:
    assert built.run("git status --porcelain") == ""
    tracked = built.run("git ls-files data models reports").split()
    written = ("README.md", "metrics.json", "seeds.md", "scaling.md", "scaling.csv", "scaling.png")
    assert not [path for path in tracked if not path.endswith(written)]


# ---- tracking


def test_every_stage_logged_a_finished_run(built: Workspace) -> None:
    found = runs(built)
    assert {name: len(statuses) for name, statuses in found.items() if name != "Default"} == {
        "data": 8,
        "pretrain": 1,
        "export": 1,
        "load-gpt2": 1,
        "finetune-classifier": 1,
        "evaluate-classifier": 1,
        "finetune-instruct": 1,
        "evaluate-instruct": 1,
        "pipeline": 1,
    }
    assert {status for statuses in found.values() for status in statuses} == {"FINISHED"}


def test_every_run_is_linked_to_the_stages_that_made_its_inputs(built: Workspace) -> None:
    with sqlite3.connect(built.folder / "mlflow.db") as database:
        rows = database.execute("select run_uuid, key, value from tags").fetchall()
    stage_of = {run: value for run, key, value in rows if key == "dvc.stage"}
    links: dict[str, set[str]] = {}
    for run, key, value in rows:
        if key.startswith("run."):
            assert report_folder(stage_of[value]) == key.removeprefix("run.")
            links.setdefault(stage_of[run], set()).add(stage_of[value])
    assert links == {
        "tokenize": {"download@text", "download@tokenizer"},
        "sample": {"tokenize"},
        "pretrain": {"tokenize", "sample"},
        "export_html": {"pretrain"},
        "load_gpt2": {"pretrain", "download@text", "tokenize", "sample"},
        "prepare_spam": {"download@spam"},
        "prepare_instructions": {"download@instructions"},
        "finetune_classifier": {"load_gpt2", "prepare_spam"},
        "evaluate_classifier": {"finetune_classifier", "prepare_spam"},
        "finetune_instruct": {"load_gpt2", "prepare_instructions"},
        "evaluate_instruct": {"finetune_instruct", "prepare_instructions"},
        "track": set(stage_of.values()) - {"track"},
    }


def test_pictures_are_artifacts_of_the_run_that_wrote_their_tables(built: Workspace) -> None:
    artifacts = built.folder / "mlartifacts"
    drawn = {
        (path.parents[3].name, path.name)
        for path in artifacts.glob("*/*/artifacts/figures/*")
        if path.suffix in (".png", ".html", ".md")
    }
    assert {("pretrain", "loss.png"), ("pretrain", "card.md"), ("data", "audit.html")} <= drawn
    assert ("evaluate-classifier", "confusion.png") in drawn
    assert not [experiment for experiment, _ in drawn if experiment == "pipeline"]


def test_metrics_have_one_name_from_the_training_to_mlflow(built: Workspace) -> None:
    with sqlite3.connect(built.folder / "mlflow.db") as database:
        query = """select e.name, m.key from metrics m join runs r using (run_uuid)
            join experiments e using (experiment_id)"""
        keys: dict[str, set[str]] = {}
        for experiment, key in database.execute(query):
            keys.setdefault(experiment, set()).add(key)
    for stage, curves in (("pretrain", ("steps", "evaluations")), ("finetune_classifier", ("steps", "evaluations"))):
        columns = {key for name in curves for key in read_csv(built.folder / f"reports/{stage}/tables/{name}.csv")[0]}
        assert columns - {"step"} | metrics(built, stage).keys() <= keys[stage.replace("_", "-")]
        ledger = {f"{stage}/{key}" for key in metrics(built, stage)}
        assert ledger <= keys["pipeline"]


# ---- what is written


KEY_OF_A_TIME = re.compile(r"(^|[_./ ])(date|time|timestamp|created|modified|duration|seconds|host|user)s?($|[_./ ])")


def keys_of(value: Any) -> Iterator[str]:
    """Yield every key in a value of JSON."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def keys_in(file: Path) -> set[str]:
    """Return the keys of a JSON file, of the rows of a JSON lines file, or the columns of a table."""
    if file.suffix == ".jsonl":
        return {key for row in read_jsonl(file) for key in keys_of(row)}
    if file.suffix == ".json" and file.name != "vocab.json":
        return set(keys_of(read_json(file)))
    return set(read_csv(file)[0]) if file.suffix == ".csv" else set()


def test_no_absolute_path_and_no_time_in_what_is_made(small: Workspace) -> None:
    """The build is of today, and in the folder of the session's build, from which it was copied nowhere yet."""
    days = {time.strftime(form, time.localtime(now)) for now in (time.time(), time.time() - 3600) for form in DAYS}
    here = [str(small.folder), str(Path.home()) + "/", *sorted(days)]
    files = [path for name in ("data", "models", "reports") for path in (small.folder / name).rglob("*")]
    files = [path for path in files if path.is_file()] + [small.folder / "dvc.lock"]
    assert len(files) > 80
    assert [(path, word) for path in files for word in here if word.encode() in path.read_bytes()] == []
    timed = {(path.name, key) for path in files for key in keys_in(path) if KEY_OF_A_TIME.search(key)}
    assert timed <= {("card.json", "judge.timeout_seconds")}


DAYS = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d %b %Y", "%b %d, %Y", "%B %d, %Y", "%a %b %d")


def test_a_time_or_a_date_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text('{"rows": [{"training_seconds": 3, "steps_time": 1, "timely": 2}]}')
    assert {key for key in keys_in(tmp_path / "meta.json") if KEY_OF_A_TIME.search(key)} == {
        "training_seconds",
        "steps_time",
    }


TEXTS = ["Mia and Tom went to the market.", "You won! Send 20 coins <|endoftext|>\n\n", "naïve 日本"]


@pytest.mark.parametrize("name", ["pretrain", "base", "instruct"])
def test_language_model_has_the_same_ids_and_logits_in_transformers(built: Workspace, name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = built.folder / "models" / name
    ours, our_tokenizer = open_language_model(folder)
    theirs, their_tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        ids = their_tokenizer(text, split_special_tokens=True).input_ids
        assert ids == our_tokenizer.encode(text)
        with torch.no_grad():
            torch.testing.assert_close(ours(torch.tensor([ids])), theirs(torch.tensor([ids])).logits, rtol=0, atol=1e-5)


def test_classifier_has_the_same_labels_and_logits_in_transformers_and_as_an_adapter_in_peft(
    built: Workspace,
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = built.folder / "models/classifier"
    ours, our_tokenizer = open_classifier(folder)
    theirs = AutoModelForSequenceClassification.from_pretrained(folder)
    base = AutoModelForSequenceClassification.from_pretrained(built.folder / "models/base", num_labels=2)
    adapted = PeftModel.from_pretrained(base, folder / "adapter")
    padded = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt", split_special_tokens=True)
    probabilities = classify_texts(ours, our_tokenizer, TEXTS, batch_size=8)
    for model in (theirs, adapted.eval()):
        with torch.no_grad():
            torch.testing.assert_close(model(**padded).logits.softmax(-1), probabilities, rtol=0, atol=1e-5)
    assert [theirs.config.id2label[number] for number in range(2)] == ours.labels == ["ham", "spam"]


def test_card_names_data_params_metrics_and_licence(built: Workspace) -> None:
    cards = {
        name: (built.folder / "reports" / kind.stage / "plots/card.md").read_text()
        for name, kind in MODEL_KINDS.items()
    }
    for card in cards.values():
        assert "generated here; no rights reserved" in card
        assert "sha256 `" in card
        assert "| parameters | " in card
    for name, number in (("pretrain", "pretrain.lr"), ("classifier", "lora.rank"), ("instruct", "max_tokens")):
        assert f"| {number} | " in cards[name]


def test_base_is_the_pretrained_model_and_has_its_loss(built: Workspace) -> None:
    base, pretrained = metrics(built, "load_gpt2"), metrics(built, "pretrain")
    assert base["val/nats_per_byte"] == pytest.approx(pretrained["val/nats_per_byte"], rel=1e-4)
    assert pretrained["val/nats_per_byte"] > pretrained["floor_nats_per_byte"] > 0
