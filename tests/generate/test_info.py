"""`llmcore info` describes a model folder, whichever program wrote it, and reports what is wrong with a broken one."""

import json
import sys
from pathlib import Path

import pytest
import torch
import transformers
from tiny import classifier_of

from llmcore.base.errors import UserError
from llmcore.generate.info import describe
from llmcore.model.folder import save_classifier, save_language_model

THEIRS = {"n_layer": 1, "n_head": 1, "n_embd": 4, "n_positions": 8, "vocab_size": 9}


@pytest.fixture
def folder(gpt, tokenizer, tmp_path) -> Path:
    origin = {"inputs": {"weights": "0123456789abcdef"}, "source": {"kind": "gpt2", "licence": "MIT (modified)"}}
    save_language_model(tmp_path / "m", gpt, tokenizer=tokenizer, origin=origin)
    return tmp_path / "m"


def test_a_language_model_of_this_pipeline_is_described(folder, gpt, tokenizer):
    found = page(folder)
    count = sum(parameter.numel() for parameter in gpt.parameters())
    assert found["architecture"] == "gpt2, language model"
    assert found["shape"] == "2 layers, 2 heads, width 8, context 24, head tied"
    assert found["parameters"] == f"{count:,}"
    parts = ("token embedding", "positions", "attention", "MLP", "layer norms")
    assert sum(int(found[part].replace(",", "")) for part in parts) == count
    assert found["dtype"] == "F32"
    assert found["tokenizer"] == f"byte-level BPE, {tokenizer.vocab_size} tokens"
    assert found["origin"] == "inputs by hash: weights 0123456789ab"
    assert found["licence"] == "MIT (modified)"
    assert found["adapter"] == "none"
    assert found["loads here"] == "yes"
    assert found["opens in transformers"] == f"yes, tried with {transformers.__version__}"


def test_a_classifier_is_described_with_its_classes(config, tokenizer, randomised, tmp_path):
    model = randomised(classifier_of(config))
    origin = {"inputs": {"base": "b" * 64, "spam": "a" * 64}}
    save_classifier(tmp_path, model, model.state_dict(), tokenizer=tokenizer, origin=origin)
    (tmp_path / "adapter").mkdir()
    found = page(tmp_path)
    assert found["architecture"] == "gpt2, classifier of ham, spam"
    assert found["head"] == "16"
    assert found["origin"] == f"inputs by hash: base {'b' * 12}, spam {'a' * 12}"
    assert found["adapter"] == "adapter/ (LoRA, PEFT layout)"
    assert (found["loads here"], found["opens in transformers"][:3]) == ("yes", "yes")


def test_a_folder_of_transformers_without_a_tokenizer_is_described(tmp_path):
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**THEIRS, tie_word_embeddings=False)).to(
        torch.float16
    )
    theirs.save_pretrained(tmp_path)
    found = page(tmp_path)
    assert found["parameters"] == f"{theirs.num_parameters():,}"
    assert found["shape"].endswith("head untied")
    assert (found["dtype"], found["head"]) == ("F16", "36")
    assert found["loads here"] == "the model does; there is no tokenizer"
    assert found["tokenizer"].startswith("none that fits (")
    assert found["origin"] == "not from this pipeline (no origin.json)"
    assert found["licence"] == "not stated"


def test_a_classifier_of_transformers_with_unnamed_classes_is_described(tmp_path):
    transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**THEIRS)).save_pretrained(tmp_path)
    found = page(tmp_path)
    assert found["architecture"] == "gpt2, classifier of unnamed classes"
    assert found["loads here"].startswith("no: ")
    assert "id2label must name the classes" in found["loads here"]


def test_without_transformers_the_page_says_so(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert page(folder)["opens in transformers"].startswith("not tried: transformers is not installed")


def test_a_tokenizer_of_another_size_is_reported(folder):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"vocab_size": 1000}))
    found = page(folder)
    assert found["tokenizer"].endswith("tokens, but the model has 1,000")
    assert "wte.weight must have shape (1000, 8)" in found["loads here"]


def test_a_folder_without_a_model_is_a_user_error(folder, tmp_path):
    with pytest.raises(UserError, match="no such model folder"):
        describe(tmp_path / "nowhere")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        describe(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="model_type must be 'gpt2', 'llama'"):
        describe(folder)


def page(folder: Path) -> dict[str, str]:
    """Return the page's lines by name."""
    lines = (line.strip().partition("  ") for line in describe(folder).splitlines())
    return {name: value.strip() for name, _, value in lines}
