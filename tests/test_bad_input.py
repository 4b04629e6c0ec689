"""What a user can get wrong: one line on stderr that names it, exit code 2, no traceback."""

import re
from pathlib import Path
from typing import Any

import pytest
from workspace import Workspace

DOWNLOAD = "python -m stages download {0} data/raw/{0} metrics.json"
PREPARE_SPAM = f"{DOWNLOAD.format('spam')} && python -m stages prepare_spam data/raw/spam data/spam metrics.json plots"
TOKENIZE = (
    f"{DOWNLOAD.format('text')} && {DOWNLOAD.format('tokenizer')} && "
    "python -m stages tokenize_text data/raw/text data/raw/tokenizer data/tokenizer data/tokens metrics.json"
)
SAMPLE = f"{TOKENIZE} && python -m stages sample data/tokens data/samples metrics.json"
OFFLINE = {"LLMCORE_TRACKING": "off", "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("bad-input"))


@pytest.fixture(autouse=True)
def committed_params(workspace: Workspace) -> None:
    workspace.run("git checkout -q . && rm -rf data/raw data/spam data/tokens data/samples data/own/*.*[!d]")


def fails(workspace: Workspace, command: str, *patterns: str, **environment: str) -> None:
    """The command ends with code 2 and one `error:` line for each pattern, in order, and no traceback."""
    printed = workspace.run(command, code=2, **OFFLINE | environment)
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in printed
    assert len(lines) == len(patterns), printed
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.search(pattern, line), line


def own(workspace: Workspace, name: str, content: bytes | str) -> str:
    path = workspace.folder / "data/own" / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return f"data/own/{name}"


def use(workspace: Workspace, item: str, path: str, **more: Any) -> None:
    workspace.set_params({f"sources.{item}.kind": "local", f"sources.{item}.path": path, **more})


def test_all_problems_of_params_are_reported_at_once(workspace: Workspace) -> None:
    path = workspace.folder / "params.yaml"
    text = path.read_text().replace("  n_layer:", "  n_layers:").replace("min_lr: 0.0 ", "min_lr: a lot ", 1)
    path.write_text(text)
    fails(
        workspace,
        DOWNLOAD.format("text"),
        r"params.yaml: model.n_layer is missing; add it",
        r"params.yaml: model.n_layers is not a known key \(did you mean n_layer\?\); remove or rename it",
        r"params.yaml: pretrain.min_lr must be a valid number, got 'a lot'",
    )


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        ("", r"data/own/my.txt.*empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", r"data/own/my.txt.*UTF-8"),
    ],
)
def test_file_without_text_is_refused(workspace: Workspace, content: bytes | str, pattern: str) -> None:
    use(workspace, "text", own(workspace, "my.txt", content))
    fails(workspace, DOWNLOAD.format("text"), pattern)


def test_text_of_one_word_is_refused(workspace: Workspace) -> None:
    use(workspace, "text", own(workspace, "my.txt", "word"))
    fails(workspace, SAMPLE, r"sample.window_tokens must leave a window .*\(\d+ tokens,.*got \d+; lower it")


def test_missing_path_is_named(workspace: Workspace) -> None:
    use(workspace, "text", "data/own/no.txt")
    fails(workspace, DOWNLOAD.format("text"), r"data/own/no.txt: no such file or folder; correct sources.text.path")


def test_table_without_the_columns_is_refused(workspace: Workspace) -> None:
    use(workspace, "spam", own(workspace, "my.csv", "message,class\nhi,a\n"))
    fails(workspace, PREPARE_SPAM, r"spam.text_column.*'text'.*message")


def test_table_of_one_class_is_refused(workspace: Workspace) -> None:
    use(workspace, "spam", own(workspace, "my.csv", "text,label\n" + "".join(f"hello {i},ham\n" for i in range(30))))
    fails(workspace, PREPARE_SPAM, r"class")


def test_broken_json_is_refused(workspace: Workspace) -> None:
    use(workspace, "instructions", own(workspace, "my.json", '[{"instruction": "Say hi", "output": "hi"'))
    fails(workspace, DOWNLOAD.format("instructions"), r"data/own/my.json.*JSON")


def test_download_with_another_hash_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "the-verdict.txt").write_text("not the story")
    workspace.set(sources__text__kind="the-verdict")
    wrong = r"the-verdict.txt.*b41e41a6"
    fails(workspace, DOWNLOAD.format("text"), wrong, LLMCORE_MIRROR=str(tmp_path))
    assert not list((workspace.folder / "data/raw/text").glob("*"))


@pytest.mark.slow
def test_download_without_network_names_the_mirror(workspace: Workspace) -> None:
    workspace.set(sources__text__kind="the-verdict")
    fails(workspace, DOWNLOAD.format("text"), r"the-verdict.txt.*LLMCORE_MIRROR")


def test_out_that_cannot_be_written_is_named(workspace: Workspace) -> None:
    workspace.run("mkdir -p data && echo x > data/raw")
    fails(workspace, DOWNLOAD.format("text"), r"data/raw/text: cannot be written")
    workspace.run("rm data/raw")


def test_given_tokenizer_without_a_source_is_refused(workspace: Workspace) -> None:
    workspace.set(tokenizer__kind="given")
    fails(workspace, DOWNLOAD.format("text"), r"sources.tokenizer.kind must name a vocabulary.*set it to gpt2 or local")


def test_missing_model_folder_is_named(workspace: Workspace) -> None:
    """The other commands are tested with `main`, in tests/test_cli.py."""
    fails(workspace, 'python -m llmcore.cli generate "Once" --model models/none', r"models/none: no such model folder")
