"""The stages from sources to rows, run as DVC runs them, in a folder of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, read_jsonl, sha256_file, sha256_folder
from stages import download, download_weights, prepare_instructions, prepare_spam

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with a small built-in world and no tracking, whatever preset is in use."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for item in ("text", "spam", "instructions"):
        params["sources"][item] = {"kind": "world", "path": "data/own", "size": 300, "seed": 1}
    params["sources"]["tokenizer"]["kind"], params["tokenizer"]["kind"] = "none", "trained"
    params["spam"]["split"], params["spam"]["balance"], params["instructions"]["split"] = "grouped", "none", "given"
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
    return read_json("prepare.json")


def rows(item: str, split: str) -> list[dict[str, Any]]:
    return list(read_jsonl(f"data/{item}/{split}.jsonl"))


@pytest.mark.parametrize("item", ["text", "spam", "instructions", "tokenizer"])
def test_download_writes_counts_and_no_paths_or_times(project: Path, item: str):
    download.main([item, f"data/raw/{item}", "download.json"])
    metrics = read_json("download.json")
    assert set(metrics) <= {"bytes", "files", "documents", "rows"}
    assert all(isinstance(value, int) for value in metrics.values())
    assert str(project) not in (project / "data" / "raw" / item / "meta.json").read_text(encoding="utf-8")


def test_the_worlds_messages_become_splits_without_leaks(project: Path):
    metrics = build("spam")
    assert metrics["test_near_train"] == metrics["val_near_train"] == metrics["test_near_val"] == 0
    assert sum(metrics[f"{name}_rows"] for name in ("train", "val", "test")) == 300
    meta = read_json("data/spam/meta.json")
    assert meta["labels"] == ["ham", "spam"]
    for name in ("train", "val", "test"):
        found = rows("spam", name)
        assert len(found) == metrics[f"{name}_rows"] == sum(meta["rows"][name].values())
        assert all(set(row) == {"text", "label", "p_spam"} and isinstance(row["p_spam"], float) for row in found)


def test_the_worlds_instructions_follow_their_own_split(project: Path):
    metrics = build("instructions")
    assert sum(metrics[f"{name}_rows"] for name in ("train", "val", "test")) == 300
    assert set(rows("instructions", "test")[0]) == {"instruction", "input", "output", "kind", "checkable"}


@pytest.mark.parametrize("item", ["spam", "instructions"])
def test_a_second_run_writes_the_same_bytes(project: Path, item: str):
    metrics, hashes = build(item), (sha256_folder(f"data/raw/{item}"), sha256_folder(f"data/{item}"))
    assert (build(item), (sha256_folder(f"data/raw/{item}"), sha256_folder(f"data/{item}"))) == (metrics, hashes)


def test_a_table_of_ones_own_with_four_classes(project: Path):
    labels = ["north", "east", "south", "west"]
    lines = [f"{labels[i % 4]},wind {'i' * i}" for i in range(80)]
    (project / "own.csv").write_text("Direction,Report\n" + "\n".join(lines) + "\nnorth,\n")
    change(project, "sources.spam", kind="local", path="own.csv")
    change(project, "spam", text_column="Report", label_column="Direction")
    metrics = build("spam")
    assert (metrics["classes"], metrics["empty_rows"]) == (4, 1)
    assert read_json("data/spam/meta.json")["labels"] == ["east", "north", "south", "west"]


def test_leaks_of_given_splits_are_written_to_the_audit(project: Path):
    wanted = [("a", "train"), ("A", "test"), ("b", "val")]
    text = "\n".join(json.dumps({"instruction": ask, "output": ask, "split": split}) for ask, split in wanted)
    (project / "own.jsonl").write_text(text)
    change(project, "sources.instructions", kind="local", path="own.jsonl")
    assert build("instructions")["test_near_train"] == 1
    audit = read_json("data/instructions/audit.json")
    assert audit["leaks"] == [{"split": "test", "row": 0, "also_in": "train", "kind": "near", "text": "A\n"}]
    assert audit["conflicts"] == [{"text": "a\n", "labels": ["A", "a"]}]


def test_the_audit_is_a_page_and_two_lines_on_the_terminal(project: Path, capsys: pytest.CaptureFixture[str]):
    build("spam")
    assert "none of 60 test rows stands in train" in capsys.readouterr().out
    page = (project / "plots/spam/audit.html").read_text(encoding="utf-8")
    audit = read_json("data/spam/audit.json")
    assert f"{audit['classes']['train']['ham']:,} (" in page
    assert audit["metrics"] == read_json("prepare.json")


def test_a_quotation_mark_that_swallows_rows_is_seen(project: Path):
    lines = [f"{'ab'[i % 2]},wind {'i' * i}" for i in range(40)] + ['a,"open', 'b,swallowed"']
    (project / "own.csv").write_text("label,text\n" + "\n".join(lines) + "\n")
    change(project, "sources.spam", kind="local", path="own.csv")
    assert build("spam")["swallowed_lines"] == 1
    [fault] = read_json("data/spam/audit.json")["faults"]
    assert (fault["fault"], fault["text"]) == ("swallowed_lines", "open\nb,swallowed")


def test_a_file_that_lies_elsewhere_in_the_world_gives_the_same_bytes(project: Path):
    hashes = []
    for folder in ("one", "two"):
        (project / folder).mkdir()
        (project / folder / "story.txt").write_text("Once upon a time.")
        change(project, "sources.text", kind="local", path=f"{folder}/story.txt")
        download.main(["text", "data/raw/text", "download.json"])
        hashes.append(sha256_folder("data/raw/text"))
    assert hashes[0] == hashes[1]


def test_weights_without_a_published_hash_are_recorded_and_it_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (project / "mirror" / "gpt2-medium").mkdir(parents=True)
    for name in ("config.json", "merges.txt", "model.safetensors", "vocab.json"):
        (project / "mirror" / "gpt2-medium" / name).write_text(name)
    monkeypatch.setenv("LLMCORE_MIRROR", str(project / "mirror"))
    download_weights.main(["gpt2-medium", "data/raw/weights/gpt2-medium", "weights.json"])
    metrics = read_json("weights.json")
    assert (metrics["files"], metrics["bytes"]) == (4, sum(map(len, ("config.json", "merges.txt", "vocab.json"))) + 17)
    recorded = sha256_file("mirror/gpt2-medium/config.json")
    assert f"gpt2-medium/config.json: no published SHA-256; recorded {recorded}" in capsys.readouterr().out


def test_a_missing_file_of_ones_own_is_named(project: Path):
    change(project, "sources.spam", kind="local", path="data/own")
    with pytest.raises(UserError, match=r"sources\.spam\.path: must be a file, got 'data/own'"):
        download.main(["spam", "data/raw/spam", "download.json"])


def test_the_worlds_download_needs_neither_network_nor_torch(project: Path):
    code = (
        "import socket, sys; socket.socket.connect = None\n"
        "from stages import download; download.main(['text', 'data/raw/text', 'download.json'])\n"
        "assert not {'torch', 'mlflow', 'tqdm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT), "LLMCORE_TRACKING": "off"})
