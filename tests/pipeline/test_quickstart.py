"""The pipeline as a user runs it: all stages at reduced size, a number changed, the change taken back."""

import json
import os
import re
import sqlite3
import sys

import pytest
import torch
from structure import ROOT, stages
from workspace import SMALL, Workspace

from llmcore.generate.classify import classify_texts
from llmcore.generate.open import open_classifier, open_language_model
from llmcore.model.folder import fingerprint

pytestmark = pytest.mark.slow

MODELS = ("pretrain", "base", "classifier", "instruct")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The pipeline, built once; the tests below go on from there, in order."""
    workspace = Workspace(tmp_path_factory.mktemp("quickstart"))
    workspace.set_params(SMALL)
    ran = workspace.repro()
    assert {name.split("@")[0] for name in ran} == set(stages()) - {"download_weights"}
    workspace.run("git add -A && git commit -qm built")
    return workspace


# commands of the README that other tests run: this suite itself, servers and who asks them
ELSEWHERE = ("make test", "make ui", "DO_NOT_TRACK=true mlflow models serve ", "curl ")


def metrics(workspace: Workspace, stage: str) -> dict[str, float]:
    return json.loads((workspace.folder / "reports" / stage / "metrics.json").read_text())


def runs(workspace: Workspace) -> dict[str, list[str]]:
    """Return the status of each run in the store, by experiment."""
    with sqlite3.connect(workspace.folder / "mlflow.db") as database:
        rows = database.execute(
            "select e.name, r.status from runs r join experiments e using (experiment_id)"
        ).fetchall()
    return {name: [status for experiment, status in rows if experiment == name] for name, _ in rows}


def linked(workspace: Workspace, tag: str) -> list[str]:
    """Return what the rows of the ledger say under a tag."""
    with sqlite3.connect(workspace.folder / "mlflow.db") as database:
        query = "select t.value from tags t join runs r using (run_uuid) join experiments e using (experiment_id)"
        return [row[0] for row in database.execute(f"{query} where e.name = 'pipeline' and t.key = '{tag}'")]


def test_nothing_to_do_runs_nothing_and_adds_no_run(built: Workspace) -> None:
    before = runs(built)
    assert built.repro() == []
    assert runs(built) == before


def test_git_sees_neither_data_nor_models(built: Workspace) -> None:
    assert built.run("git status --porcelain") == ""
    tracked = built.run("git ls-files data models reports").split()
    assert not [path for path in tracked if not path.endswith(("README.md", "metrics.json"))]


def test_every_stage_logged_a_finished_run(built: Workspace) -> None:
    found = runs(built)
    assert {name: len(statuses) for name, statuses in found.items() if name != "Default"} == {
        "data": 8,
        "pretrain": 1,
        "load-gpt2": 1,
        "finetune-classifier": 1,
        "evaluate-classifier": 1,
        "finetune-instruct": 1,
        "evaluate-instruct": 1,
        "pipeline": 1,
    }
    assert {status for statuses in found.values() for status in statuses} == {"FINISHED"}


def test_no_absolute_path_and_no_time_in_what_is_versioned(built: Workspace) -> None:
    for file in sorted(built.folder.glob("reports/*/metrics.json")) + sorted(built.folder.glob("models/*/*.json")):
        assert str(built.folder) not in file.read_text()


TEXTS = ["Mia and Tom went to the market.", "You won! Send 20 coins <|endoftext|>\n\n", "naïve 日本"]


@pytest.mark.parametrize("name", ["pretrain", "base", "instruct"])
def test_a_language_model_has_the_same_ids_and_logits_in_transformers(built: Workspace, name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = built.folder / "models" / name
    ours, our_tokenizer = open_language_model(folder)
    theirs, their_tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        ids = their_tokenizer(text, split_special_tokens=True).input_ids
        assert ids == our_tokenizer.encode(text)
        with torch.no_grad():
            torch.testing.assert_close(ours(torch.tensor([ids])), theirs(torch.tensor([ids])).logits, rtol=0, atol=1e-5)


def test_the_classifier_has_the_same_labels_and_logits_in_transformers_and_as_an_adapter_in_peft(
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


def test_a_card_names_data_params_metrics_and_licence(built: Workspace) -> None:
    for name in MODELS:
        card = (built.folder / "models" / name / "README.md").read_text()
        assert "generated here; no rights reserved" in card
        assert "sha256 `" in card
        assert "| parameters | " in card
    for name, number in (("pretrain", "pretrain.lr"), ("classifier", "lora.rank"), ("instruct", "max_tokens")):
        assert f"| {number} | " in (built.folder / "models" / name / "README.md").read_text()


def test_the_base_is_the_pretrained_model_and_has_its_loss(built: Workspace) -> None:
    base, pretrained = metrics(built, "load_gpt2"), metrics(built, "pretrain")
    assert base["val_nats_per_byte"] == pytest.approx(pretrained["val_nats_per_byte"], rel=1e-4)
    assert pretrained["val_nats_per_byte"] > pretrained["floor_nats_per_byte"] > 0


def test_a_lora_number_reruns_the_classifier_alone_and_reverting_trains_nothing(built: Workspace) -> None:
    classifier = (built.folder / "models/classifier/model.safetensors").read_bytes()
    built.set(classifier__lora__rank=4, classifier__lora__targets=["attn.c_attn"])
    assert built.repro() == ["finetune_classifier", "evaluate_classifier", "track"]
    assert (built.folder / "models/classifier/model.safetensors").read_bytes() != classifier
    built.run("git checkout -q params.yaml")
    before = runs(built)
    assert built.repro() == ["track"]  # the ledger notes the return; everything else comes from the cache
    assert runs(built) == before | {"pipeline": ["FINISHED", *before["pipeline"]]}
    assert len(set(linked(built, "run.finetune_classifier"))) == 2  # of three rows, the first and the last are the same
    assert (built.folder / "models/classifier/model.safetensors").read_bytes() == classifier
    assert built.run("git status --porcelain") == ""


def test_the_learning_rate_of_pretraining_reruns_it_and_what_follows(built: Workspace) -> None:
    built.set(pretrain__lr=0.001)
    after = ["pretrain", "load_gpt2", "finetune_classifier", "evaluate_classifier"]
    assert set(built.repro()) == {*after, "finetune_instruct", "evaluate_instruct", "track"}
    assert "pretrain.lr" in built.run("dvc params diff")
    assert "val_loss" in built.run("dvc metrics diff")
    built.run("git checkout -q params.yaml")
    assert built.repro() == ["track"]


def test_a_number_that_does_not_fit_the_base_is_one_line_and_loses_nothing(built: Workspace) -> None:
    classifier = (built.folder / "models/classifier/model.safetensors").read_bytes()
    built.set(classifier__max_tokens=100_000)
    printed = built.run("dvc repro", code=255)
    assert "error: classifier.max_tokens must be at most the base's context of" in printed
    assert "Traceback" not in printed
    built.run("git checkout -q params.yaml")
    assert "finetune_classifier" not in built.repro()
    assert (built.folder / "models/classifier/model.safetensors").read_bytes() == classifier


def test_every_command_of_the_readme_works(built: Workspace) -> None:
    """As a user types them, in one shell, in a clone whose .venv is this environment."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith(ELSEWHERE)]
    venv = built.folder / ".venv"
    venv.symlink_to(sys.prefix)
    for marker in ("installed", "installed-dev"):
        (venv / marker).touch()
    built.run("bash -ex", input="\n".join(lines), PATH=os.defpath)
    page = (built.folder / "dvc_plots/index.html").read_text()
    assert "vegaEmbed" in page
    assert "<script src" not in page  # it draws without a network
    built.run("git checkout -q params.yaml")


def test_the_python_of_the_readme_works(built: Workspace) -> None:
    [block] = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    printed = built.run(f"{sys.executable} -", input=block, HF_HUB_OFFLINE="1")
    assert {"ham", "spam"} & set(printed.splitlines())


def test_from_scratch_again_gives_the_same_bytes(built: Workspace) -> None:
    lock = (built.folder / "dvc.lock").read_bytes()
    built.run("dvc repro -f")
    assert (built.folder / "dvc.lock").read_bytes() == lock
    assert built.run("git status --porcelain") == ""


def test_tracking_switched_off_changes_no_byte(built: Workspace) -> None:
    before = runs(built)
    lock = (built.folder / "dvc.lock").read_bytes()
    built.run("dvc repro -f -s pretrain", LLMCORE_TRACKING="off")
    assert (built.folder / "dvc.lock").read_bytes() == lock
    assert runs(built) == before


def test_a_foreign_gpt2_folder_goes_through_both_fine_tunings(built: Workspace) -> None:
    """Made by transformers: no `transformer.` prefix, attention masks stored as weights."""
    from peft import PeftModel
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, GPT2Config, GPT2Model

    tokens = metrics(built, "tokenize")["vocab_size"]
    config = GPT2Config(vocab_size=int(tokens), n_positions=256, n_embd=32, n_layer=2, n_head=4)
    foreign = built.folder / "foreign"
    GPT2Model(config).save_pretrained(foreign)
    weights = load_file(foreign / "model.safetensors")
    assert "wte.weight" in weights
    weights |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 256, 256).tril() for layer in range(2)}
    save_file(weights, foreign / "model.safetensors", metadata={"format": "pt"})
    for name in ("vocab.json", "merges.txt"):
        (foreign / name).write_bytes((built.folder / "data/tokenizer" / name).read_bytes())
    built.set(weights__path="foreign", instruct__trainable="lora")
    expected = ["load_gpt2", "finetune_classifier", "evaluate_classifier", "finetune_instruct", "evaluate_instruct"]
    assert set(built.repro()) == {*expected, "track"}
    base = json.loads((built.folder / "models/base/origin.json").read_text())
    assert base == {
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
