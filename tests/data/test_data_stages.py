"""The stages download, download_weights and prepare, called in a temporary project."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, sha256_file, sha256_folder
from stages import download, download_weights, prepare_instructions, prepare_spam

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with a small built-in world and without tracking, whatever preset is in use."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for item, count in {"text": "stories", "spam": "rows", "instructions": "rows"}.items():
        params["sources"][item] |= {"kind": "world", "path": "data/own", count: 300, "seed": 1}
    params["sources"]["tokenizer"]["kind"] = "none"
    params["tokenizer"]["kind"] = "trained"
    params["spam"] |= {"split": "grouped", "balance": "none"}
    params["instructions"]["split"] = "given"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("LLMCORE_TRACKING", "off")
    monkeypatch.setenv("LLMCORE_MIRROR", "")
    save(tmp_path, params)
    return tmp_path


def save(project: Path, params: dict[str, Any]) -> None:
    YAML(typ="safe").dump(params, project / "params.yaml")


def change(project: Path, section: str, **values: Any) -> None:
    params = YAML(typ="safe").load((project / "params.yaml").read_text(encoding="utf-8"))
    found = params
    for name in section.split("."):
        found = found[name]
    found.update(values)
    save(project, params)


def build(item: str) -> dict[str, Any]:
    """Run download and prepare of `item` and return the metrics of prepare."""
    prepare = {"spam": prepare_spam, "instructions": prepare_instructions}[item]
    download.main([item, f"data/raw/{item}", "download.json"])
    prepare.main([f"data/raw/{item}", f"data/{item}", "prepare.json", f"plots/{item}"])
    metrics: dict[str, Any] = read_json("prepare.json")
    return metrics


@pytest.mark.parametrize("item", ["text", "spam", "instructions", "tokenizer"])
def test_download_writes_counts_and_no_paths_or_times(project: Path, item: str) -> None:
    download.main([item, f"data/raw/{item}", "download.json"])
    metrics = read_json("download.json")
    assert set(metrics) <= {"bytes", "files", "documents", "rows", "equal_documents"}
    assert all(isinstance(value, int) for value in metrics.values())
    assert str(project) not in (project / "data" / "raw" / item / "meta.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("item", ["spam", "instructions"])
def test_a_second_run_writes_the_same_bytes(project: Path, item: str) -> None:
    metrics = build(item)
    hashes = [sha256_folder(folder) for folder in (f"data/raw/{item}", f"data/{item}")]
    assert build(item) == metrics
    assert [sha256_folder(folder) for folder in (f"data/raw/{item}", f"data/{item}")] == hashes


def test_the_audit_is_a_table_and_two_lines_on_the_terminal(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build("spam")
    assert "none of 60 test rows stands in train" in capsys.readouterr().out
    assert read_json("plots/spam/audit.json")["classes"] == read_json("data/spam/meta.json")["rows"]


def test_the_bytes_do_not_depend_on_the_folder_of_the_users_file(project: Path) -> None:
    hashes = []
    for folder in ("one", "two"):
        (project / folder).mkdir()
        (project / folder / "story.txt").write_text("Once upon a time.")
        change(project, "sources.text", kind="local", path=f"{folder}/story.txt")
        download.main(["text", "data/raw/text", "download.json"])
        hashes.append(sha256_folder("data/raw/text"))
    assert hashes[0] == hashes[1]


def test_a_hash_that_nobody_publishes_is_recorded_and_printed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mirror" / "gpt2-medium").mkdir(parents=True)
    for name in ("config.json", "merges.txt", "model.safetensors", "vocab.json"):
        (project / "mirror" / "gpt2-medium" / name).write_text(name)
    monkeypatch.setenv("LLMCORE_MIRROR", str(project / "mirror"))
    download_weights.main(["gpt2-medium", "data/raw/weights/gpt2-medium", "weights.json"])
    metrics = read_json("weights.json")
    assert (metrics["files"], metrics["bytes"]) == (4, sum(map(len, ("config.json", "merges.txt", "vocab.json"))) + 17)
    recorded = sha256_file("mirror/gpt2-medium/config.json")
    assert f"gpt2-medium/config.json: no published SHA-256; recorded {recorded}" in capsys.readouterr().out


def test_a_missing_file_of_the_user_is_named(project: Path) -> None:
    change(project, "sources.spam", kind="local", path="data/own")
    with pytest.raises(UserError, match=r"sources\.spam\.path: must be a file, got 'data/own'"):
        download.main(["spam", "data/raw/spam", "download.json"])


def test_writing_the_world_needs_neither_network_nor_torch(project: Path) -> None:
    code = (
        "import socket, sys; socket.socket.connect = None\n"
        "from stages import download; download.main(['text', 'data/raw/text', 'download.json'])\n"
        "assert not {'torch', 'mlflow', 'tqdm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT), "LLMCORE_TRACKING": "off"})
