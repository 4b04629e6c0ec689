"""Model cards: the hub can read them, and equal models have equal cards."""

import json

import pytest
from ruamel.yaml import YAML

from llmcore.config.read import read_params
from llmcore.data.world.instructions import Kind
from llmcore.report.card import ABOUT, model_card

PARAMS = {"lr": 0.001, "trainable": "lora", "pooling": "last_real", "lora": {"rank": 16, "targets": ["attn.c_attn"]}}


@pytest.mark.parametrize("kind", list(ABOUT))
def test_the_front_matter_is_what_the_hub_reads(kind: Kind):
    card = model_card(kind, params=PARAMS, metrics={"val_loss": 1.5}, licence="MIT (modified)")
    _, front, _ = card.split("---\n", 2)
    matter = YAML(typ="safe").load(front)
    assert (matter["license"], matter["license_name"]) == ("other", "mit-modified")
    assert matter["library_name"] == "transformers"
    assert matter["pipeline_tag"] == ("text-classification" if kind == "classifier" else "text-generation")


@pytest.mark.parametrize("kind", list(ABOUT))
def test_the_snippets_are_python_with_classes_that_exist(kind: Kind):
    import transformers

    card = model_card(kind, params=PARAMS, metrics={}, licence="not stated")
    assert hasattr(transformers, ABOUT[kind].opened_by)
    for snippet in card.split("```python\n")[1:]:
        compile(snippet.partition("```")[0], "card", "exec")


@pytest.mark.parametrize("licence", ["CC BY 4.0", "Apache-2.0", "mit"])
def test_a_licence_that_the_hub_knows_goes_by_its_identifier(licence: str):
    card = model_card("instruct", params={}, metrics={}, licence=licence)
    assert f"license: {licence.lower().replace(' ', '-')}\n" in card
    assert f"That of the base model: {licence}." in card


def test_params_and_metrics_stand_in_tables():
    card = model_card(
        "classifier", params=PARAMS, metrics={"val_accuracy": 0.987654, "steps": 300, "note": "a|b"}, licence="x"
    )
    assert "| val_accuracy | 0.9877 |" in card
    assert "| steps | 300 |" in card
    assert "| note | a\\|b |" in card
    assert "| lora.rank | 16 |" in card
    assert f"| lora.targets | {json.dumps(['attn.c_attn'])} |" in card


def test_only_an_adapter_is_said_to_be_one_and_only_padded_pooling_warns():
    assert "PeftModel" in model_card("classifier", params=PARAMS, metrics={}, licence="not stated")
    assert "PeftModel" not in model_card(
        "classifier", params=PARAMS | {"trainable": "all"}, metrics={}, licence="not stated"
    )
    assert "answers differ" not in model_card("classifier", params=PARAMS, metrics={}, licence="not stated")
    assert "answers differ" in model_card(
        "classifier", params=PARAMS | {"pooling": "last_position"}, metrics={}, licence="not stated"
    )


def test_empty_sections_are_left_out_and_equal_arguments_give_equal_text():
    card = model_card("base", params={}, metrics={}, licence="not stated")
    assert "## Results" not in card
    assert "## Data" not in card
    assert card == model_card("base", params={}, metrics={}, licence="not stated")


def test_the_real_params_make_a_card():
    section = read_params().classifier
    assert "| lora.rank |" in model_card("classifier", params=section.model_dump(), metrics={}, licence="not stated")
