"""The classifier equals that of transformers on rows of different lengths, whatever the padding."""

import json

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import classifier_of

from llmcore.base.errors import UserError
from llmcore.model.classifier import SequenceClassifier, pad_rows, set_trainable
from llmcore.model.folder import load_classifier, load_language_model, save_classifier

LABELS = ["ham", "other", "spam"]


@pytest.fixture(scope="module")
def classifier(config, randomised) -> SequenceClassifier:
    return randomised(classifier_of(config, LABELS))


@pytest.fixture
def folder(classifier, tokenizer, tmp_path):
    write(tmp_path / "m", classifier, tokenizer)
    return tmp_path / "m"


def test_logits_equal_those_of_transformers_on_rows_of_different_lengths(classifier, folder, tokenizer):
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    texts = ["Call now!", "Anna had a red ball.", "a", "won 1000 balls; the garden"]
    ids, read = pad_rows([tokenizer.encode(text) for text in texts], tokenizer.end_of_text, None)
    assert len(set(read.tolist())) == len(texts)
    with torch.no_grad():
        torch.testing.assert_close(classifier(ids, read), theirs(ids).logits, rtol=0, atol=1e-5)
    assert theirs.config.id2label == dict(enumerate(LABELS))
    assert theirs.config.label2id == {label: index for index, label in enumerate(LABELS)}


def test_a_classifier_saved_by_transformers_loads_with_equal_logits(randomised, tmp_path):
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 16, "vocab_size": 40}
    their_config = transformers.GPT2Config(**shape, id2label=dict(enumerate(LABELS)), pad_token_id=39)
    theirs = randomised(transformers.GPT2ForSequenceClassification(their_config))
    theirs.save_pretrained(tmp_path)
    ours = load_classifier(tmp_path)
    assert (ours.labels, ours.pooling, ours.max_tokens) == (LABELS, "last_real", 16)
    ids, read = pad_rows([[1, 2, 3], [4], [5, 6]], 39, None)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids, read), theirs(ids).logits, rtol=0, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 200), min_size=1, max_size=12), min_size=1, max_size=5),
    extra=st.integers(0, 12),
    filler=st.integers(0, 200),
)
def test_padding_after_a_row_changes_no_prediction(rows, extra, filler, classifier, tokenizer):
    ids, read = pad_rows(rows, tokenizer.end_of_text, None)
    more = torch.full((len(rows), extra), filler)
    with torch.no_grad():
        alone = torch.cat([classifier(*pad_rows([row], tokenizer.end_of_text, None)) for row in rows])
        torch.testing.assert_close(classifier(torch.cat([ids, more], dim=1), read), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", ["last_real", "last_position"])
def test_a_loaded_classifier_equals_the_saved_one(config, randomised, tokenizer, pooling, tmp_path):
    model = randomised(classifier_of(config, LABELS, pooling), seed=2)
    write(tmp_path, model, tokenizer)
    again = load_classifier(tmp_path)
    assert (again.config, again.labels, again.pooling, again.max_tokens) == (config, LABELS, pooling, 20)
    assert not again.training
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_the_head_depends_on_its_generator_alone(config, randomised):
    first, second = classifier_of(config, LABELS), classifier_of(config, LABELS)
    for model in (first, second):
        model.initialise_head(torch.Generator().manual_seed(3))
    assert torch.equal(first.score.weight, second.score.weight)
    assert 0.005 < first.score.weight.std() < 0.04


@pytest.mark.parametrize(
    ("trainable", "prefixes"),
    [
        ("head", ["score.weight"]),
        ("last_block", ["score.weight", "transformer.h.1", "transformer.ln_f"]),
        ("all", ["score.weight", "transformer.h.0", "transformer.h.1", "transformer.ln_f", "wpe", "wte"]),
    ],
)
def test_only_the_chosen_parts_are_trained(config, trainable, prefixes):
    model = classifier_of(config, LABELS)
    set_trainable(model, "head")
    set_trainable(model, trainable)  # the choice before does not matter
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    expected = {name for name, _ in model.named_parameters() if any(prefix in name for prefix in prefixes)}
    assert trained == expected
    assert len(expected) == {"head": 1, "last_block": 15, "all": 29}[trainable]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id2label": None}, r"config\.json: id2label must name the classes"),
        ({"id2label": {"0": "ham", "2": "spam"}}, r"config\.json: id2label must name the classes"),
        ({"id2label": {"0": "ham", "1": "spam"}}, r"score\.weight must have shape \(2, 8\), got \(3, 8\)"),
        ({"pooling": "mean"}, r"pooling must be one of last_real, last_position, got 'mean'"),
        ({"max_tokens": 25}, r"max_tokens must be an integer from 1 to n_positions \(24\), got 25"),
        ({"max_tokens": "all"}, r"max_tokens must be an integer from 1 to n_positions \(24\), got 'all'"),
    ],
)
def test_a_wrong_setting_of_a_folder_is_named(folder, changes, message):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))
    with pytest.raises(UserError, match=message):
        load_classifier(folder)


def test_a_classifier_folder_is_refused_as_a_language_model(folder):
    with pytest.raises(UserError, match=r"score\.weight \(3, 8\) belongs to no part of this model"):
        load_language_model(folder)


def write(folder, model: SequenceClassifier, tokenizer) -> None:
    save_classifier(folder, model, model.state_dict(), tokenizer=tokenizer, origin={})
