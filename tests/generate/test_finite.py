"""Whatever weights a model has: no probability, loss or score that is not finite leaves it."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from structure import ROOT
from tiny import classifier_of, generation, tiny_gpt

from llmcore.base.errors import UserError
from llmcore.generate.classify import class_probabilities
from llmcore.generate.decode import decode
from llmcore.generate.token_tables import attention_rows, token_rows
from llmcore.model.folder import load_classifier, load_language_model, save_classifier, save_language_model
from llmcore.model.packed import prepare_for_decoding

FACTORS = [1e20, 1e30, 3e38, -1e38]
PARTS = ["wte.weight", "wpe.weight", "ln_f.weight", "c_attn.weight", "c_fc.weight", "score.weight", "lm_head.weight"]


def spoilt(model, part: str, factor: float):
    """Multiply some weights; they stay finite."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(part):
                parameter.mul_(factor).nan_to_num_(posinf=3e38, neginf=-3e38)
    return model


def assert_finite_or_refused(call) -> None:
    try:
        numbers = call()
    except UserError as error:
        message = str(error)
    else:
        assert all(map(math.isfinite, numbers))
        return
    assert "must be finite, got NaN or infinity; " in message
    assert "\n" not in message


@settings(max_examples=60, deadline=None)
@given(part=st.sampled_from(PARTS), factor=st.sampled_from(FACTORS) | st.floats(1e10, 3e38))
def test_probabilities_are_finite_or_refused(part, factor, config, tokenizer):
    classifier = classifier_of(config)
    classifier.body.initialise(torch.Generator().manual_seed(0))
    classifier.initialise_head(torch.Generator().manual_seed(0))
    spoilt(classifier, part, factor)
    rows = [[1, 2, 3], [4]]
    assert_finite_or_refused(lambda: class_probabilities(classifier, rows, batch_size=2, pad_id=0).flatten().tolist())


@pytest.mark.parametrize("precision", [None, "fp32", "int8"])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("part", PARTS)
def test_generated_text_comes_from_finite_logits_or_is_refused(part, factor, precision):
    model = spoilt(tiny_gpt(tied_head=False), part, factor)
    if precision:
        prepare_for_decoding(model, precision)
    assert_finite_or_refused(lambda: decode(model, [[1, 2], [3]], generation(4), stop_ids=())[0].ids)


@pytest.mark.parametrize("part", PARTS)
def test_the_tables_of_a_sample_are_finite_or_refused(part, gpt, tokenizer):
    spoilt(gpt, part, 1e30)
    text = "Anna had a ball."
    assert_finite_or_refused(lambda: [row["probability"] for row in token_rows(gpt, tokenizer, text)])
    assert_finite_or_refused(lambda: [row["0"] for row in attention_rows(gpt, tokenizer, text)])


@pytest.fixture
def folders(gpt, config, randomised, tokenizer, tmp_path) -> Path:
    """A language model and a classifier whose every logit is NaN."""
    model = spoilt(gpt, "weight", 1e20)
    save_language_model(tmp_path / "lm", model, tokenizer=tokenizer, origin={})
    classifier = spoilt(randomised(classifier_of(config)), "weight", 1e20)
    save_classifier(tmp_path / "classifier", classifier, classifier.state_dict(), tokenizer=tokenizer, origin={})
    return tmp_path


@pytest.mark.parametrize(
    ("model", "arguments"),
    [("classifier", ["classify"]), ("lm", ["generate"]), ("lm", ["generate", "--precision", "int8"])],
)
def test_a_command_names_the_model(folders, model, arguments):
    command = [sys.executable, "-m", "llmcore.cli", *arguments, "hi", "--model", str(folders / model)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {folders / model}: its logits must be finite, got NaN or infinity; ")
    assert len(done.stderr.splitlines()) == 1


def test_a_loaded_model_knows_its_folder(folders):
    assert load_language_model(folders / "lm").folder == str(folders / "lm")
    assert load_classifier(folders / "classifier").folder == str(folders / "classifier")
