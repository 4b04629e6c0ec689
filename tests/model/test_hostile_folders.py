"""What a folder says is compared with what it holds before anything is built, and never printed in a command."""

import json
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import transformers
from model_folders import assert_refused, set_config
from safetensors.torch import load_file, save_file
from tiny import classifier_of

from llmcore.base.errors import UserError
from llmcore.generate.info import describe
from llmcore.generate.open import open_language_model
from llmcore.model.folder import load_classifier, load_language_model, save_classifier, save_language_model

WEIGHTS = "model.safetensors"
SIZES = [10**9, 2**31, 2**53, 2**63, 2**64, 10**30]


@pytest.fixture
def folder(gpt, tokenizer, tmp_path) -> Path:
    save_language_model(tmp_path / "m", gpt, tokenizer=tokenizer, origin={})
    return tmp_path / "m"


@pytest.fixture
def classifier_folder(config, randomised, tokenizer, tmp_path) -> Path:
    model = randomised(classifier_of(config))
    save_classifier(tmp_path / "c", model, model.state_dict(), tokenizer=tokenizer, origin={})
    return tmp_path / "c"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("key", ["n_layer", "vocab_size", "n_positions", "n_embd", "n_head"])
def test_a_size_that_the_weights_do_not_have_is_refused_at_once(folder, classifier_folder, key, size):
    started = time.monotonic()
    for name in (folder, classifier_folder):
        set_config(name, **{key: size})
    assert_refused(folder, rf"must (have shape|be)|{key} must be")
    with pytest.raises(UserError, match="must"):
        load_classifier(classifier_folder)
    assert time.monotonic() - started < 5  # a billion layers would take days


def test_all_sizes_can_be_wrong_together(folder):
    set_config(folder, n_layer=10**9, n_embd=2**62, n_head=2**31, vocab_size=2**63, n_positions=2**63)
    assert_refused(folder, "wte.weight must have shape")


def test_weights_without_embeddings_are_not_complete(folder):
    tensors = load_file(folder / WEIGHTS)
    del tensors["transformer.wpe.weight"]
    save_file(tensors, folder / WEIGHTS)
    assert_refused(folder, r"transformer\.wpe\.weight \(24, 8\) is missing")


@pytest.mark.parametrize("name", ["extra.{}", "h.{}.attn.bias", "transformer.h.{}.ln_1.weight"])
def test_thousands_of_further_tensors_are_read_in_seconds(folder, name):
    tensors = load_file(folder / WEIGHTS)
    more = {name.format(number): torch.zeros(8) for number in range(10, 4010)}
    save_file(tensors | more, folder / WEIGHTS)
    started = time.monotonic()
    with suppress(UserError):
        load_language_model(folder)
    assert time.monotonic() - started < 5


# ---- commands that are printed


HOSTILE = ['x"; touch owned; "', "$(touch owned)", "`touch owned`", "'; touch owned; '", "a\ntouch owned", 3, None]


@pytest.mark.parametrize("content", HOSTILE)
@pytest.mark.parametrize("form", [lambda value: [value], lambda value: value, lambda value: {"x": value}])
def test_the_command_that_converts_a_pickle_holds_nothing_of_the_folders_content(folder, content, form):
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    set_config(folder, architectures=form(content))
    message = assert_refused(folder, "a pickle can run any code")
    assert "owned" not in message


@pytest.mark.parametrize("text", ["[]", "3", '"x"', "{}"])
def test_a_pickle_beside_any_config_is_refused(folder, text):
    (folder / WEIGHTS).unlink()
    (folder / "model.pt").write_bytes(b"")
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError):
        describe(folder)


@pytest.mark.parametrize("name", ["a b", "it's", 'say "hi"', "$(touch owned)", "a;b", "a(b"])
def test_the_path_in_a_printed_command_is_one_word_of_the_shell(folder, name):
    folder = folder.rename(folder.parent / name)
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    message = assert_refused(folder, "a pickle can run any code")
    words = shlex.split(message.partition("convert it once: ")[2])
    assert (words[:2], words[3:]) == (["python", "-c"], [str(folder)])
    compile(words[2], "command", "exec")


@pytest.mark.parametrize(("model", "kind"), [("folder", "CausalLM"), ("classifier_folder", "SequenceClassification")])
def test_the_command_keeps_the_head(request, model, kind):
    folder = request.getfixturevalue(model)
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    load = load_language_model if kind == "CausalLM" else load_classifier
    with pytest.raises(UserError, match=f"import AutoModelFor{kind} as M"):
        load(folder)


# ---- what else a folder may say


ODD: list[object] = [
    None,
    3,
    0.5,
    True,
    "",
    "x",
    "licence",
    [],
    [1],
    [[]],
    {},
    {"0": 1},
    {"0": None, "1": []},
    {"a": "b"},
]


@pytest.mark.parametrize("value", [json.dumps(value) for value in ODD])
@pytest.mark.parametrize("key", ["id2label", "architectures", "label2id", "pooling", "max_tokens"])
def test_info_describes_a_folder_whatever_its_config_says(folder, classifier_folder, key, value):
    for name in (folder, classifier_folder):
        set_config(name, **{key: json.loads(value)})
        assert describe(name).startswith("folder ")


@pytest.mark.parametrize("value", [json.dumps(value) for value in ODD])
@pytest.mark.parametrize("place", ["{}", '{{"inputs": {}}}', '{{"inputs": {{"base": {}}}}}', '{{"source": {}}}'])
def test_info_describes_a_folder_whatever_its_origin_says(folder, place, value):
    (folder / "origin.json").write_text(place.format(value))
    assert describe(folder).startswith("folder ")


def test_classes_of_one_name_are_refused(classifier_folder):
    """A served answer has each class once, by its name."""
    set_config(classifier_folder, id2label={"0": "ham", "1": "ham"})
    with pytest.raises(UserError, match="id2label must name the classes"):
        load_classifier(classifier_folder)


# ---- a tokenizer that does not fit


@pytest.mark.parametrize("more", [0, 47])
def test_a_folder_with_only_tokenizer_json_is_read_and_may_have_a_padded_embedding(gpt, folder, tokenizer, more):
    """As transformers writes it."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs.resize_token_embeddings(tokenizer.vocab_size + more)
    theirs.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    _, opened = open_language_model(folder)
    assert opened.encode("Anna had") == tokenizer.encode("Anna had")
    assert opened.document_start == [opened.end_of_text] == [tokenizer.end_of_text]
    rows = f"tokenizer.json, {tokenizer.vocab_size} tokens of the model's {tokenizer.vocab_size + more}"
    assert rows in describe(folder)


def test_a_tokenizer_that_is_larger_than_its_model_is_refused(folder, tokenizer):
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    theirs.add_tokens(["<more>"])
    theirs.save_pretrained(folder)
    refused(folder, f"the tokenizer must have the model's {tokenizer.vocab_size} tokens, got")


def test_a_folder_without_a_tokenizer_is_told_apart_from_a_stage_that_has_not_run(folder):
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    with pytest.raises(UserError, match=r"has no tokenizer\.json, and no vocab\.json and merges\.txt; copy") as caught:
        open_language_model(folder)
    assert "dvc repro" not in str(caught.value) + describe(folder)


@pytest.mark.parametrize("more", [1, 47])
def test_a_padded_vocabulary_gets_a_command_that_cuts_it(folder, tokenizer, more):
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs.resize_token_embeddings(tokenizer.vocab_size + more)
    theirs.save_pretrained(folder)
    message = refused(
        folder, f"the model has {tokenizer.vocab_size + more} tokens, its tokenizer {tokenizer.vocab_size}"
    )
    _, _, code, *arguments = shlex.split(message.partition("cut them off: ")[2])
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    open_language_model(folder)


def refused(folder: Path, message: str) -> str:
    """Opening fails with a one-line message, which `info` repeats."""
    with pytest.raises(UserError, match=message) as caught:
        open_language_model(folder)
    assert "\n" not in str(caught.value)
    assert f"no: {caught.value}" in describe(folder)
    return str(caught.value)
