"""Folders become served models: their names, their kinds, and the command that serves them until Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from serve.endpoint import running

from llmcore.base.errors import UserError
from llmcore.model.folder import save_classifier, save_language_model
from llmcore.model.registry import new_model
from llmcore.serve.limits import Limits
from llmcore.serve.models import ServedModel, default_folders, open_models


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, served_models: dict[str, ServedModel], config: Any, randomised: Any
) -> Path:
    """A project's folder with a model of each kind; the first one writes for a long time."""
    root = tmp_path_factory.mktemp("project") / "models"
    helper, sorter = served_models["helper"], served_models["sorter"]
    story = randomised(new_model(replace(config, context_length=4096)))
    for name, model, extra in (("pretrain", story, {}), ("instruct", helper.language_model, {"prompt_form": "alpaca"})):
        save_language_model(root / name, model, tokenizer=helper.tokenizer, origin={}, extra=extra)
    classifier = sorter.classifier
    save_classifier(root / "classifier", classifier, classifier.state_dict(), tokenizer=sorter.tokenizer, origin={})
    return root.parent


def test_kind_follows_from_the_folder(folders: Path) -> None:
    found = open_models([str(folders / name) for name in default_folders(folders)])
    assert [(served.id, served.kind, served.form) for served in found.values()] == [
        ("pretrain", "text", None),
        ("instruct", "chat", "alpaca"),
        ("classifier", "classifier", None),
    ]


def test_error_of_a_model_names_its_id(folders: Path) -> None:
    models = open_models([str(folders / name) for name in default_folders(folders)])
    for served in models.values():
        torch.nn.init.constant_(next(served.model.body.parameters()), torch.nan)
    with running(models) as endpoint:
        for name, path, fields in [
            ("pretrain", "/v1/completions", {"prompt": "a"}),
            ("pretrain", "/inspect", {"text": "a"}),
            ("classifier", "/classify", {"input": "a"}),
        ]:
            message = endpoint.post(path, {"model": name} | fields).json()["error"]["message"]
            assert message.startswith(f"{name}: its logits must be finite")


def test_base_is_served_where_nothing_was_pretrained(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/base").symlink_to(folders / "models/pretrain")
    assert default_folders(tmp_path) == ["models/base"]


def test_nothing_to_serve_and_two_of_one_name_are_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc repro"):
        default_folders(tmp_path)
    (tmp_path / "pretrain").symlink_to(folders / "models/pretrain")
    with pytest.raises(UserError, match="rename one of the folders"):
        open_models([str(folders / "models/pretrain"), f"{folders}/models/../models/pretrain"])


def test_command_answers_until_ctrl_c_also_with_an_open_stream(folders: Path, tokenizer: Any) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "llmcore.cli", "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=folders, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("pretrain (text), instruct (chat), classifier (classifier) at http://127.0.0.1:")
        found = re.search(r"http://\S+/v1", line)
        assert found is not None
        endless = {"max_tokens": 4000, "n": 32, "logit_bias": {str(tokenizer.end_of_text): -100}}
        body = {"model": "pretrain", "prompt": "A dog", "stream": True, **endless}
        with httpx2.stream("POST", f"{found[0]}/completions", json=body) as stream:
            lines = stream.iter_lines()
            assert json.loads(next(lines).removeprefix("data: "))["model"] == "pretrain"
            process.send_signal(signal.SIGINT)
            *_, last = filter(None, lines)
            assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
            stderr = process.communicate(timeout=10)[1]
    assert process.returncode == 0
    assert stderr == ""


def test_missing_fastapi_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmcore.serve import server

    def without_fastapi(name: str) -> Any:
        return None if name == "fastapi" else object()

    monkeypatch.setattr(server, "find_spec", without_fastapi)
    with pytest.raises(UserError, match=r"pip install -e '.\[serve\]'"):
        server.serve([], host="127.0.0.1", port=0, limits=Limits(), needs_key=False, precision="fp32")
