"""Model cards: the hub can read them, and equal facts give equal cards."""

import json
from typing import Any

import pytest
from ruamel.yaml import YAML
from structure import ROOT

from llmcore.config.kinds import MODEL_KINDS
from llmcore.config.read import read_params
from llmcore.report.card import model_card

PARAMS = {"lr": 0.001, "trainable": "lora", "pooling": "last_real", "lora": {"rank": 16, "targets": ["attn.c_attn"]}}


def facts(licence: str = "not stated", params: dict[str, Any] = PARAMS, **more: Any) -> dict[str, Any]:
    return {"licence": licence, "params": params, "inputs": {}, **more}


@pytest.mark.parametrize("kind", list(MODEL_KINDS))
def test_front_matter_is_what_the_hub_reads(kind: str):
    card = model_card(kind, facts("MIT (modified)"), {"val/loss": 1.5})
    _, front, _ = card.split("---\n", 2)
    matter = YAML(typ="safe").load(front)
    assert (matter["license"], matter["license_name"]) == ("other", "mit-modified")
    assert matter["library_name"] == "transformers"
    assert matter["pipeline_tag"] == ("text-classification" if kind == "classifier" else "text-generation")


@pytest.mark.parametrize("kind", list(MODEL_KINDS))
def test_snippets_are_python_with_classes_that_exist(kind: str):
    import transformers

    card = model_card(kind, facts(), {})
    assert hasattr(transformers, MODEL_KINDS[kind].opened_by)
    for snippet in card.split("```python\n")[1:]:
        compile(snippet.partition("```")[0], "card", "exec")


@pytest.mark.parametrize("licence", ["CC BY 4.0", "Apache-2.0", "mit"])
def test_licence_that_the_hub_knows_goes_by_its_identifier(licence: str):
    card = model_card("instruct", facts(licence, {}), {})
    assert f"license: {licence.lower().replace(' ', '-')}\n" in card
    assert f"That of the base model: {licence}." in card


def test_params_and_metrics_stand_in_tables():
    card = model_card("classifier", facts("x"), {"val/accuracy": 0.987654, "steps": 300, "note": "a|b"})
    assert "| val/accuracy | 0.9877 |" in card
    assert "| steps | 300 |" in card
    assert "| note | a\\|b |" in card
    assert "| lora.rank | 16 |" in card
    assert f"| lora.targets | {json.dumps(['attn.c_attn'])} |" in card


def test_inputs_are_listed_with_kind_licence_and_hash():
    source = {"kind": "world", "licence": "generated here", "sha256": "ab12"}
    card = model_card("pretrain", facts(inputs={"tokens": source}), {})
    assert "- tokens: world, generated here; sha256 `ab12`\n" in card


def test_notes_are_listed():
    assert "- Of its 64 positions the first 24 were kept.\n" in model_card(
        "base", facts(params={}, notes=["Of its 64 positions the first 24 were kept."]), {}
    )


def test_adapter_and_pooling_are_explained_only_where_they_apply():
    assert "PeftModel" in model_card("classifier", facts(), {})
    assert "PeftModel" not in model_card("classifier", facts(params=PARAMS | {"trainable": "all"}), {})
    assert "answers differ" not in model_card("classifier", facts(), {})
    assert "answers differ" in model_card("classifier", facts(params=PARAMS | {"pooling": "last_position"}), {})


def test_empty_sections_are_left_out_and_equal_arguments_give_equal_text():
    card = model_card("base", facts(params={}), {})
    assert "## Results" not in card
    assert "## Data" not in card
    assert card == model_card("base", facts(params={}), {})


def test_committed_params_make_a_card():
    section = read_params(ROOT / "params.yaml").classifier
    assert "| lora.rank |" in model_card("classifier", facts(params=section.model_dump()), {})
