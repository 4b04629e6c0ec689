"""A changed number reruns what depends on it and nothing else; the change taken back runs nothing again."""

import json
import sqlite3

import pytest
import torch
from workspace import SMALL, Workspace

from llmcore.model.folder import fingerprint

pytestmark = pytest.mark.slow

CLASSIFIER = ("finetune_classifier", "evaluate_classifier")
INSTRUCT = ("finetune_instruct", "evaluate_instruct")


def with_reports(*names: str) -> set[str]:
    """Return the stages, the drawing of those that have something to draw, and the ledger."""
    return {*names, *(f"report@{name}" for name in names if name != "evaluate_instruct"), "track"}


def weights(workspace: Workspace) -> bytes:
    return (workspace.folder / "models/classifier/model.safetensors").read_bytes()


def ledger_links(workspace: Workspace, tag: str) -> list[str]:
    """Return the values of a tag in the rows of the ledger."""
    with sqlite3.connect(workspace.folder / "mlflow.db") as database:
        query = "select t.value from tags t join runs r using (run_uuid) join experiments e using (experiment_id)"
        rows = database.execute(f"{query} where e.name = 'pipeline' and t.key = ?", (tag,))
        return [row[0] for row in rows]


def run_counts(workspace: Workspace) -> dict[str, int]:
    """Return the number of finished runs by experiment; every run must be finished."""
    with sqlite3.connect(workspace.folder / "mlflow.db") as database:
        query = "select e.name, r.status from runs r join experiments e using (experiment_id)"
        rows = database.execute(query).fetchall()
    assert {status for _, status in rows} == {"FINISHED"}
    return {name: sum(experiment == name for experiment, _ in rows) for name, _ in rows}


@pytest.mark.exhaustive
def test_lora_number_reruns_the_classifier_alone_and_reverting_trains_nothing(built: Workspace) -> None:
    trained = weights(built)
    lora = {"classifier.lora.rank": 4, "classifier.lora.targets": ["attn.c_attn"]}
    built.set_params({"runtime.tracking": True} | lora)
    assert set(built.repro()) == with_reports(*CLASSIFIER)
    assert weights(built) != trained
    built.run("git checkout -q params.yaml")
    built.set_params({"runtime.tracking": True})
    before = run_counts(built)
    assert built.repro() == ["track"]  # the ledger notes the return; everything else comes from the cache
    assert run_counts(built) == before | {"pipeline": before["pipeline"] + 1}
    links = ledger_links(built, "run.finetune_classifier")
    assert len(links) == 3
    assert len(set(links)) == 2  # the first and the last are the same
    assert weights(built) == trained
    built.run("git checkout -q params.yaml")
    assert built.run("git status --porcelain") == ""


@pytest.mark.exhaustive
def test_learning_rate_of_pretraining_reruns_it_and_what_follows(built: Workspace) -> None:
    built.set(pretrain__lr=0.001)
    assert set(built.repro()) == with_reports("pretrain", "load_gpt2", *CLASSIFIER, *INSTRUCT) | {"export_html"}
    assert "pretrain.lr" in built.run("dvc params diff")
    assert "val/loss" in built.run("dvc metrics diff")
    built.run("git checkout -q params.yaml")
    assert built.repro() == ["track"]


def test_number_that_does_not_fit_the_base_is_one_error_line_and_loses_nothing(built: Workspace) -> None:
    trained = weights(built)
    built.set(classifier__max_tokens=100_000)
    printed = built.run("dvc repro", code=255)
    assert "error: classifier.max_tokens must be at most the base's context of" in printed
    assert "Traceback" not in printed
    built.run("git checkout -q params.yaml")
    assert "finetune_classifier" not in built.repro()
    assert weights(built) == trained


def test_foreign_gpt2_folder_goes_through_both_fine_tunings(built: Workspace) -> None:
    """Made by transformers: no `transformer.` prefix, attention masks stored as weights."""
    from peft import PeftModel
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, GPT2Config, GPT2Model

    vocabulary = json.loads((built.folder / "reports/tokenize/metrics.json").read_text())["vocab_size"]
    config = GPT2Config(vocab_size=int(vocabulary), n_positions=256, n_embd=32, n_layer=2, n_head=4)
    foreign = built.folder / "foreign"
    GPT2Model(config).save_pretrained(foreign)
    tensors = load_file(foreign / "model.safetensors")
    assert "wte.weight" in tensors
    tensors |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 256, 256).tril() for layer in range(2)}
    save_file(tensors, foreign / "model.safetensors", metadata={"format": "pt"})
    for name in ("vocab.json", "merges.txt"):
        (foreign / name).write_bytes((built.folder / "data/tokenizer" / name).read_bytes())
    built.set_params(SMALL | {"weights.path": "foreign", "instruct.trainable": "lora"})
    assert set(built.repro("finetune_classifier finetune_instruct")) == {"load_gpt2", CLASSIFIER[0], INSTRUCT[0]}
    origin = json.loads((built.folder / "models/base/origin.json").read_text())
    assert origin == {
        "inputs": {"weights": fingerprint(foreign)},
        "source": {"kind": "local", "licence": "not stated"},
    }
    merged = AutoModelForCausalLM.from_pretrained(built.folder / "models/instruct")
    whole = AutoModelForCausalLM.from_pretrained(built.folder / "models/base")
    adapted = PeftModel.from_pretrained(whole, built.folder / "models/instruct/adapter").eval()
    ids = torch.arange(200)[None]
    with torch.no_grad():
        torch.testing.assert_close(adapted(ids).logits, merged(ids).logits, rtol=0, atol=1e-5)
    built.run("git checkout -q params.yaml")
