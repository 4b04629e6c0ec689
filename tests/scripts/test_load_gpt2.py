"""GPT-2 weights come from a pinned download or any folder in its layout, and become the base."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from workspace import SMALL, Workspace

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, sha256_file
from llmcore.base.origin import Source, read_source
from llmcore.data.pretrained import WEIGHTS
from llmcore.generate.export import export_gguf
from llmcore.generate.open import open_language_model
from llmcore.tokenizer.bpe import BytePairTokenizer
from stages import download_weights

PARAMS_FILE = Path(__file__).resolve().parents[2] / "params.yaml"
# every pair of bytes is a token: a vocabulary of GPT-2's size without its file
PAIRS = [(bytes([left]), bytes([right])) for left in range(256) for right in range(256)]


def write_gpt2(folder: Path, merges: list[tuple[bytes, bytes]], **shape: int) -> transformers.GPT2LMHeadModel:
    """Write random weights as openai-community published GPT-2's: a GPT2Model, whose keys have no prefix."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=257 + len(merges), **shape)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.transformer.save_pretrained(folder)
    BytePairTokenizer(merges).save(folder)
    return theirs


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror that serves a tiny model under the name of the published one; its hashes are in the table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("LLMCORE_TRACKING", "off")
    monkeypatch.setenv("LLMCORE_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "params.yaml").write_bytes(PARAMS_FILE.read_bytes())
    folder = tmp_path / "mirror/gpt2"
    write_gpt2(folder, PAIRS[:30], n_layer=2, n_head=2, n_embd=8, n_positions=16)
    files = tuple(replace(file, sha256=file.sha256 and sha256_file(folder / file.name)) for file in WEIGHTS["gpt2"])
    monkeypatch.setitem(WEIGHTS, "gpt2", files)
    return folder


def test_download_is_a_model_folder_with_its_licence(mirror: Path) -> None:
    download_weights.main(["gpt2", "weights/gpt2", "metrics.json"])
    assert read_json("metrics.json")["files"] == 4
    assert read_source("weights/gpt2") == Source("gpt2", "MIT (modified)")
    ours, tokenizer = open_language_model("weights/gpt2")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(mirror)
    ids = torch.tensor([tokenizer.encode("Once upon a time")])
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-5)


def test_weights_with_another_hash_are_refused_and_not_stored(mirror: Path) -> None:
    weights = mirror / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match=r"gpt2/model\.safetensors: SHA-256 must be "):
        download_weights.main(["gpt2", "weights/gpt2", "metrics.json"])
    assert not Path("weights/gpt2/model.safetensors").exists()
    assert not Path("metrics.json").exists()


@pytest.fixture(scope="module")
def workspace(small: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = small.copy(tmp_path_factory.mktemp("load-gpt2"))
    write_gpt2(workspace.folder / "own", PAIRS[:30], n_layer=2, n_head=2, n_embd=16, n_positions=64)
    (workspace.folder / "own/README.md").write_text("---\nlicense: apache-2.0\n---\n")
    workspace.set_params({**SMALL, "weights.path": "own"})
    return workspace


@pytest.mark.slow
def test_a_gguf_file_is_a_base(workspace: Workspace) -> None:
    export_gguf(workspace.folder / "own", "f16", workspace.folder / "own-gguf/own.gguf")
    for path in ("own-gguf/own.gguf", "own-gguf"):
        workspace.set(weights__path=path)
        assert f"The base of fine-tuning, models/base, is {path}." in workspace.run("dvc repro load_gpt2")
        base, tokenizer = open_language_model(workspace.folder / "models/base")
        file_model, file_tokenizer = open_language_model(workspace.folder / path)
        assert tokenizer.encode("Anna had 12 balls") == file_tokenizer.encode("Anna had 12 balls")
        found, expected = base.state_dict(), file_model.state_dict()
        assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    workspace.set(weights__path="own")


@pytest.mark.slow
def test_cropped_context_is_reported(workspace: Workspace) -> None:
    workspace.set(weights__context_length=24)
    printed = workspace.run("dvc repro report@load_gpt2")
    assert "The base of fine-tuning, models/base, is own. Of its 64 positions the first 24 were kept." in printed
    assert json.loads((workspace.folder / "reports/load_gpt2/metrics.json").read_text())["context_length"] == 24
    card = (workspace.folder / "reports/load_gpt2/plots/card.md").read_text()
    assert "- Of its 64 positions the first 24 were kept." in card
    assert "license: apache-2.0\n" in card
    whole = transformers.AutoModelForCausalLM.from_pretrained(workspace.folder / "own")
    cropped = transformers.AutoModelForCausalLM.from_pretrained(workspace.folder / "models/base")
    ids = torch.arange(24)[None]
    with torch.no_grad():
        torch.testing.assert_close(cropped(ids).logits, whole(ids).logits, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_context_longer_than_the_models_is_one_error_line(workspace: Workspace) -> None:
    workspace.set(weights__context_length=65)
    printed = workspace.run("dvc repro load_gpt2", code=255)
    rule = "weights.context_length must be at most the 64 positions that the model of weights.path has, got 65"
    assert f"error: {rule}; lower it, or 0 keeps all\n" in printed
    assert "Traceback" not in printed


@pytest.mark.exhaustive
@pytest.mark.slow
def test_preset_gpt2_124m_runs_to_the_end_on_random_weights_of_its_shape(tmp_path: Path) -> None:
    """With few rows and steps; without the pinned weights, the preset as it stands is refused."""
    workspace = Workspace(tmp_path)
    write_gpt2(tmp_path / "mirror/gpt2", PAIRS[:50_000])
    workspace.run("cp presets/gpt2-124m.yaml params.yaml")
    refused = workspace.run("dvc repro download_weights@gpt2", code=255, LLMCORE_MIRROR=str(tmp_path / "mirror"))
    assert "error: gpt2/" in refused
    assert "Traceback" not in refused

    few: dict[str, Any] = {f"sources.{item}.kind": "world" for item in ("text", "spam", "instructions")}
    few |= {"sources.text.stories": 30, "sources.instructions.rows": 30}
    few |= {"sources.spam.rows": 60}  # fewer would leave a class without a row in some split
    few |= {"sources.tokenizer.kind": "local", "sources.tokenizer.path": "mirror/gpt2"}
    few |= {"weights.download": [], "weights.path": "mirror/gpt2"}
    few |= {"spam.split": "grouped", "instructions.split": "given", "evaluate_instruct.max_new_tokens": 2}
    few |= {"pretrain.epochs": 0.01, "classifier.epochs": 0.2, "instruct.epochs": 0.05}
    workspace.set_params(few)
    workspace.run("dvc repro")

    counts = {
        stage: json.loads((tmp_path / "reports" / stage / "metrics.json").read_text())
        for stage in ("load_gpt2", "finetune_classifier", "finetune_instruct")
    }
    assert counts["load_gpt2"]["parameters"] == counts["finetune_instruct"]["parameters"] == 124_439_808
    assert counts["finetune_classifier"]["trained_parameters"] == 2_360_832
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "mirror/gpt2")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "models/base")
    states = (theirs.state_dict(), base.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not list(tmp_path.glob("models/*/*.bin"))
    for folder in ("models", ".dvc/cache", "mirror"):
        workspace.run(f"rm -rf {folder}")  # gigabytes
