"""Text is the same wherever it enters: files, arguments, standard input, served requests."""

import io
import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.base.text import checked_input, normalise_input
from llmcore.commands.classify import classify_given_texts
from llmcore.config.read import check_params
from llmcore.data.reading import read_alpaca, read_table, read_text
from llmcore.data.text_files import read_documents

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
texts = st.text(st.sampled_from("ab \ufeff\r\n\u2028\x85\x0b\"',;é"), max_size=12)


@given(texts)
def test_normalised_text_is_normalised(text: str) -> None:
    once = normalise_input(text)
    assert normalise_input(once) == once
    assert "\r" not in once
    assert not once.startswith("\ufeff")


@given(texts.map(lambda text: f"{text}x"))
@example("\ufeffhello you\r\nx")
@same_folder
def test_files_of_every_form_give_the_same_text(tmp_path: Path, text: str) -> None:
    def write(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode())
        return path

    wanted = normalise_input(text)
    quoted = '"' + text.replace('"', '""') + '"'
    assert read_text(write("a.txt", text)) == wanted
    assert read_documents(write("a.jsonl", json.dumps({"text": text}))) == [wanted]
    assert list(read_table(write("b.jsonl", json.dumps({"text": text})))["text"]) == [wanted]
    assert list(read_table(write("c.csv", f"label,text\r\nx,{quoted}\r\n"))["text"]) == [wanted]
    [row] = read_alpaca(write("d.json", json.dumps([{"instruction": text, "input": text, "output": text}])))
    assert (row["instruction"], row["input"], row["output"]) == (wanted, wanted, wanted)


@pytest.fixture
def classified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that reach the classifier, from the command line and from a served request."""
    from llmcore.generate import classify
    from llmcore.serve import served

    found: list[str] = []

    def record(model: Any, tokenizer: Any, texts: list[str], **_: Any) -> torch.Tensor:
        found.extend(texts)
        return torch.ones(len(texts), 1)

    monkeypatch.setattr(classify, "classify_texts", record)
    monkeypatch.setattr(served, "classify_texts", record)
    monkeypatch.setattr("llmcore.generate.open.open_classifier", lambda folder: (SimpleNamespace(labels=["a"]), None))
    return found


@given(st.lists(texts.map(lambda text: f"x{text}y"), min_size=1, max_size=4))
@same_folder
def test_lines_of_standard_input_arguments_and_requests_are_the_texts_of_a_file(
    tmp_path: Path, classified: list[str], monkeypatch: pytest.MonkeyPatch, given_texts: list[str]
) -> None:
    from llmcore.serve.served import ClassifierModel

    classified.clear()
    classify_given_texts(Namespace(model="", texts=given_texts))
    model: Any = ClassifierModel()
    model.model = SimpleNamespace(labels=["a"])
    model.tokenizer = None
    model.predict(None, given_texts)
    wanted = [normalise_input(text) for text in given_texts]
    assert classified == wanted * 2
    if not any("\n" in text for text in wanted):
        classified.clear()
        monkeypatch.setattr("sys.stdin", io.StringIO("\ufeff" + "\r\n".join(given_texts) + "\r\n", newline=""))
        classify_given_texts(Namespace(model="", texts=[]))
        assert classified == wanted


@pytest.mark.parametrize("content", ["", "\n", "a\n\nb\n", "\ufeff\r\n"])
def test_an_empty_line_of_standard_input_is_refused(
    classified: list[str], monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(content, newline=""))
    with pytest.raises(UserError, match="TEXT: must not be empty"):
        classify_given_texts(Namespace(model="", texts=[]))


def test_bytes_that_are_no_text_are_a_user_error() -> None:
    with pytest.raises(UserError, match=r"prompt: must be valid Unicode, got the lone surrogate '\\udcff'"):
        checked_input(b"a\xff".decode("utf-8", errors="surrogateescape"), "prompt")


def test_the_sample_prompt_of_params_is_normalised() -> None:
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["pretrain"]["sample_prompt"] = "\ufeffMia\r\nand"
    assert check_params(values).pretrain.sample_prompt == "Mia\nand"
