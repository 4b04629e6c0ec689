"""Registered models answer like the code they were made with, and say what is wrong with a request."""

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.base.files import sha256_file
from llmcore.cli import main
from llmcore.config.generation import ANSWER, STORY
from llmcore.config.kinds import REGISTERED
from llmcore.dvc.deps import code_deps
from llmcore.generate.classify import classify_texts
from llmcore.generate.open import open_classifier, open_language_model
from llmcore.generate.write import answer_instructions, continue_texts
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.folder import save_classifier, save_language_model
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.serve.register import REQUIREMENTS, register
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.prompt import encode_prompt
from llmcore.tracking import mlflow_store
from llmcore.tracking.store_location import store_uri

TRACKING = "MLFLOW_TRACKING_URI"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy this machine has
LABELS = ["ham", "spam", "other"]
TEXTS = ["Call now!", "Anna had a ball. " * 20, "naïve 日本 <|endoftext|>"]


@pytest.fixture(scope="module", autouse=True)
def _store_without_bytecode() -> Iterator[None]:
    """MLflow imports from the store, here and in servers, and a test lists the store's files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        yield


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory,
    config: GPT2Config,
    tokenizer: BytePairTokenizer,
    randomised: Callable[..., Any],
) -> Iterator[Path]:
    """A project with a model of each kind, the run that made its classifier, and all three registered."""
    root = tmp_path_factory.mktemp("project")
    room = len(encode_prompt(tokenizer, "alpaca", REGISTERED["instruct"].example[0]["instruction"], "").ids) + 30
    roomy = GPT2Config(**{**vars(config), "context_length": room})
    for name, seed in (("base", 0), ("instruct", 1)):
        model = randomised(new_model(roomy), seed)
        save_language_model(root / "models" / name, model, tokenizer=tokenizer, origin={})
    classifier = randomised(SequenceClassifier(new_model(config).body, LABELS, "last_real", 20))
    state = classifier.state_dict()
    save_classifier(root / "models/classifier", classifier, state, tokenizer=tokenizer, origin={})
    (root / "reports/finetune_classifier/plots").mkdir(parents=True)
    (root / "reports/finetune_classifier/plots/card.md").write_text("# The card\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(TRACKING, raising=False)
        patch.setenv("DVC_ROOT", str(root))
        patch.chdir(root)
        patch.setattr(sys, "path", [*sys.path])  # MLflow puts each loaded model's code in front
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "false")  # a scoring server sets it for the whole process
        store = mlflow_store.open_store()
        run = store.start({"stage": "finetune_classifier", "time": 1, "name": "made-it"})
        store.client.set_tag(run, "model_sha256", weights_hash(root, "classifier"))
        for kind, known in REGISTERED.items():
            register(kind, Path(known.folder), str(known.registered_name), "champion")
        yield root


def weights_hash(root: Path, kind: str) -> str:
    return sha256_file(root / "models" / kind / "model.safetensors")


def registered_names() -> list[str]:
    return sorted(model.name for model in client().search_registered_models())


def client() -> Any:
    return mlflow_store.open_store().client


def load(kind: str) -> Any:
    from mlflow.pyfunc import load_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TRACKING, store_uri())
        return load_model(f"models:/{REGISTERED[kind].registered_name}@champion")


@pytest.fixture(scope="module")
def post(project: Path) -> Callable[..., tuple[int, Any]]:
    """Post a body to the scoring server of a kind: status and answer."""
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    servers = {kind: TestClient(scoring_server.init(load(kind))) for kind in REGISTERED}

    def post(kind: str, body: Any) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else json.dumps(body)
        reply = servers[kind].post("/invocations", content=content, headers={"Content-Type": "application/json"})
        return reply.status_code, reply.json()

    return post


# ---- answers


def test_registered_classifier_gives_the_probabilities_of_classify_texts(project, post):
    model, tokenizer = open_classifier("models/classifier")
    expected = classify_texts(model, tokenizer, TEXTS, batch_size=32)
    predictions = load("classifier").predict(TEXTS)
    assert [list(text.probabilities.values()) for text in predictions] == expected.tolist()
    assert [text.label for text in predictions] == [LABELS[best] for best in expected.argmax(-1).tolist()]
    assert post("classifier", {"inputs": TEXTS}) == (200, {"predictions": [text.model_dump() for text in predictions]})


ASKED = [{"instruction": "Say hi."}, {"instruction": "What is this?", "input": "A ball."}]


@pytest.mark.parametrize("params", [{}, {"temperature": 1, "seed": 3, "top_k": 40, "top_p": 0.9, "max_new_tokens": 7}])
def test_registered_instruction_model_answers_like_the_command_line(project, post, params):
    model, tokenizer = open_language_model("models/instruct")
    pairs = [(asked["instruction"], asked.get("input", "")) for asked in ASKED]
    answers = answer_instructions(model, tokenizer, "alpaca", pairs, replace(ANSWER, **params))
    expected = [answer.text for answer in answers]
    assert any(expected)
    assert load("instruct").predict(ASKED, params=params) == expected
    assert post("instruct", {"inputs": ASKED, "params": params}) == (200, {"predictions": expected})


@pytest.mark.parametrize("params", [{}, {"temperature": 0.0, "max_new_tokens": 5}])
def test_registered_base_continues_texts_like_the_command_line(project, post, params):
    model, tokenizer = open_language_model("models/base")
    continuations = continue_texts(model, tokenizer, ["Anna had", ""], replace(STORY, **params))
    expected = [continuation.text for continuation in continuations]
    assert post("base", {"inputs": ["Anna had", ""], "params": params}) == (200, {"predictions": expected})


def test_empty_request_gets_an_empty_answer(post):
    for kind in REGISTERED:
        assert post(kind, {"inputs": []}) == (200, {"predictions": []})


# ---- bad requests

LONG = "ball " * 500


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("classifier", b'{"inputs": [', "valid JSON"),
        ("classifier", b"\xff\xfe", "valid JSON"),
        ("classifier", [1], "must be a JSON dictionary"),
        ("classifier", {"texts": ["a"]}, "'inputs' key"),
        ("classifier", {"dataframe_split": {"data": [["a"]]}}, "'inputs' key"),
        ("classifier", {"inputs": "a"}, "Expected list, but got str"),
        ("classifier", {"inputs": ["a", 3]}, "Expected type str, but got int"),
        ("classifier", {"inputs": [None]}, "Expected type str, but got NoneType"),
        ("classifier", {"inputs": ["a", ""]}, "inputs: a text must not be empty; "),
        ("instruct", {"inputs": ["Say hi."]}, "to be a dictionary"),
        ("instruct", {"inputs": [{"input": "A ball."}]}, "instruction"),
        ("instruct", {"inputs": [{"instruction": 3}]}, "should be a valid string"),
        ("instruct", {"inputs": [{"instruction": "Say hi.", "imput": "A ball."}]}, "imput"),
        ("instruct", {"inputs": [{"instruction": " "}]}, "instruction: must not be empty; "),
        ("instruct", {"inputs": [{"instruction": "Say hi.", "input": LONG}]}, "instruction: its prompt must have at "),
        ("base", {"inputs": [LONG]}, "prompt: must have 1 to "),
        ("base", {"inputs": ["a"], "params": {"temperature": -1}}, "temperature: must be 0 or more, got -1.0; "),
        ("base", b'{"inputs": ["a"], "params": {"temperature": NaN}}', "temperature: must be 0 or more, got nan; "),
        ("base", {"inputs": ["a"], "params": {"temperature": "hot"}}, "temperature"),
        ("base", {"inputs": ["a"], "params": {"temperature": None}}, "temperature: must be a number, got null; "),
        ("base", {"inputs": ["a"], "params": {"max_new_tokens": 0}}, "max_new_tokens: must be positive, got 0; "),
        ("base", {"inputs": ["a"], "params": {"max_new_tokens": 2.5}}, "max_new_tokens"),
        ("base", {"inputs": ["a"], "params": {"top_k": -1, "top_p": 2}}, "top_p: must be above 0 and at most 1"),
        ("base", {"inputs": ["a"], "params": {"seed": "x"}}, "seed"),
        ("base", {"inputs": ["a"], "params": [1]}, "Parameters must be a dictionary"),
    ],
)
def test_invalid_request_gets_http_400_with_a_message(post, kind, body, message):
    status, answer = post(kind, body)
    assert status == 400
    assert message in answer["message"]
    assert "unexpected error" not in answer["message"]


# ---- the registry


def test_version_is_linked_to_the_run_that_made_its_weights(project):
    found = client().get_model_version_by_alias("spam-classifier", "champion")
    run = client().get_run(found.run_id)
    assert run.info.run_name == "made-it"
    assert found.tags == {
        "model_sha256": weights_hash(project, "classifier"),
        "llmcore.stage": "finetune_classifier",
        "run_id": run.info.run_id,
    }


def test_model_without_a_run_is_registered_too(project):
    found = client().get_model_version_by_alias("instruction-follower", "champion")
    assert not found.run_id
    assert found.tags == {"model_sha256": weights_hash(project, "instruct"), "llmcore.stage": "finetune_instruct"}


def test_same_weights_again_move_the_alias_and_make_no_version(project, capsys):
    assert main(["register", "classifier", "--alias", "second"]) == 0
    said, serve = capsys.readouterr().out.splitlines()
    expected = "spam-classifier version 1 already holds these weights; spam-classifier@second is this version"
    assert said == expected
    command = "mlflow models serve -m models:/spam-classifier@second --env-manager local --port 5050"
    assert serve == f"DO_NOT_TRACK=true {command}"
    assert len(client().search_model_versions("name = 'spam-classifier'")) == 1


def test_other_weights_are_the_next_version_and_take_the_alias(project):
    for folder, version in (("base", 1), ("instruct", 2), ("base", 1)):
        register("base", Path("models", folder), "texts", "champion")
        assert int(client().get_model_version_by_alias("texts", "champion").version) == version


def test_store_elsewhere_is_named_in_the_command(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = register("base", project / "models/base", "base-model", "champion")
    assert f" MLFLOW_TRACKING_URI=sqlite:///{project}/mlflow.db mlflow models serve " in printed


@pytest.mark.parametrize(
    ("kind", "folder", "name", "alias", "message"),
    [
        ("base", "nowhere", "n", "a", "no such model folder"),
        ("base", "models/classifier", "n", "a", "is a classifier, which writes no text"),
        ("classifier", "models/base", "n", "a", "id2label must name the classes"),
        ("base", "models/base", "n", "latest", "--alias: must be letters"),
        ("base", "models/base", "n", "V2", "--alias: must be letters"),
        ("base", "models/base", "n", "a b", "--alias: must be letters"),
        ("base", "models/base", "n", "a" * 256, "--alias: must be letters, digits, - and _, at most 255, "),
        ("base", "models/base", " ", "a", "--name: must not be empty, got ' '; choose another"),
        *[
            ("base", "models/base", bad, "a", f"--name: must not contain .*, got {re.escape(repr(bad))}; choose")
            for bad in ("a/b", "it's", "a%b#c", "..", 'a"b', "a:b", "a?b", "a\\", "a\nb", "b\n", "a\x7f", "a\u2028b")
        ],
    ],
)
def test_what_cannot_be_registered_is_one_error_line(project, kind, folder, name, alias, message):
    before, names = len(stored(project)), registered_names()
    with pytest.raises(UserError, match=message) as raised:
        register(kind, Path(folder), name, alias)
    assert len(str(raised.value).splitlines()) == 1
    assert len(stored(project)) == before
    assert registered_names() == names


def test_a_name_with_spaces_and_signs_can_be_loaded(project):
    from mlflow.pyfunc import load_model

    name = "a b#c@d-é"
    assert f"{name}@{'x' * 255} is this version" in register("base", Path("models/base"), name, "x" * 255)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TRACKING, store_uri())
        assert load_model(f"models:/{name}@{'x' * 255}").predict(["Anna had"])
    assert name in registered_names()


def test_server_that_does_not_answer_is_one_error_line_without_its_password(project, monkeypatch):
    monkeypatch.setenv(TRACKING, "http://me:secret@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI: the server fails or does not answer") as raised:
        register("base", Path("models/base"), "base-model", "champion")
    assert "secret" not in str(raised.value)


# ---- what is stored

NOT_LOADED = {"gguf", "ruamel"}  # imported by functions that serving does not call; a test below serves without


def stored(project: Path) -> list[Path]:
    return sorted(path.parent for path in project.rglob("MLmodel"))


def test_stored_model_brings_its_code_and_holds_no_pickle(project):
    for model in stored(project):
        files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
        assert {f"code/{path}" for path in code_deps("llmcore/serve/pyfunc.py", ROOT)} <= files
        assert not [file for file in files if file.endswith((".pkl", ".pt", ".pth", ".bin", ".pyc"))]


def test_stored_model_folder_has_the_card_as_readme_where_one_was_drawn(project):
    cards = sorted(path.read_text() for path in project.glob("mlartifacts/**/artifacts/**/README.md"))
    assert cards == ["# The card\n"]


def test_requirements_are_what_serving_imports(project):
    """Of the code that a served model loads; `mlflow` brings pandas, which its own server needs."""
    names = set()
    for file in code_deps("llmcore/serve/pyfunc.py", ROOT):
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    foreign = names - set(sys.stdlib_module_names) - {"llmcore"}
    assert foreign - NOT_LOADED == set(REQUIREMENTS)  # each is installed by the name by which it is imported
    pinned = {line for line in (ROOT / "requirements.lock").read_text().splitlines() if line}
    assert set((stored(project)[0] / "requirements.txt").read_text().splitlines()) <= pinned


# ---- the real server


LOAD = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[2].split()))  # as if they were not installed
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
model.predict([])
import llmcore
print(llmcore.__file__)
"""


@pytest.mark.slow
def test_served_code_is_the_one_stored_with_the_model_and_needs_no_more_than_the_requirements(project):
    """Also where another llmcore is installed, as it is here."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    model = stored(project)[0]
    command = [sys.executable, "-c", LOAD, str(model), " ".join(NOT_LOADED)]
    printed = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(model / "code/llmcore/__init__.py")


@pytest.fixture
def server(project: Path) -> Iterator[int]:
    """The documented command, as a user types it in the project, on a free port: no PYTHONPATH, and no way out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    [command] = documented_commands("DO_NOT_TRACK=true mlflow models serve ")
    unplugged = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DVC_ROOT", TRACKING)}
    environment |= unplugged | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    log = project / "serve.log"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", command.replace("5050", str(port))],
            cwd=project,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_it_answers(port, process, log)
        yield port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.mark.slow
def test_mlflow_serves_a_registered_model_without_a_network(project, server):
    model, tokenizer = open_classifier("models/classifier")
    expected = classify_texts(model, tokenizer, TEXTS, batch_size=32)
    status, answer = post_to(server, {"inputs": TEXTS})
    assert status == 200
    assert [list(row["probabilities"].values()) for row in answer["predictions"]] == expected.tolist()
    assert post_to(server, {"inputs": [""]})[0] == post_to(server, b"{")[0] == 400
    [asked] = documented_commands("curl ")
    curl = ["bash", "-c", asked.replace("5050", str(server)).replace("curl ", "curl --noproxy '*' ")]
    answer = json.loads(subprocess.run(curl, capture_output=True, check=True).stdout)
    assert answer["predictions"][0]["label"] in LABELS


def documented_commands(start: str) -> list[str]:
    lines = (ROOT / "docs/serving.md").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith(start)]


def wait_until_it_answers(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        with suppress(OSError), DIRECT.open(f"http://127.0.0.1:{port}/ping", timeout=5):
            return
        time.sleep(0.5)
    raise AssertionError(log.read_text())


def post_to(port: int, body: Any) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", data, {"Content-Type": "application/json"})
    try:
        with DIRECT.open(asked, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
