"""A training over many token shards is the training over one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from structure import ROOT
from workspace import enter_project

from llmcore.base.files import read_json, sha256_file
from llmcore.run.encode import encode_corpus

SMALL = {"n_layer": 1, "n_head": 2, "n_embd": 16}
PRETRAIN = [*("data/samples", "data/tokens", "data/tokenizer", "models/pretrain"), "metrics.json", "tables"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter_project(tmp_path, monkeypatch)
    params = YAML(typ="safe").load((ROOT / "presets/quickstart.yaml").read_text(encoding="utf-8"))
    params["sources"]["text"]["stories"] = 3000
    params["model"] |= SMALL
    params["pretrain"] |= {"epochs": 1, "batch_size": 8, "sample_tokens": 4}
    params["runtime"] |= {"processes": 1, "progress": False}
    YAML(typ="safe").dump(params, Path("params.yaml"))
    return tmp_path


def stage(*arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "stages", *arguments], env=environment, check=True)


@pytest.mark.slow
def test_a_pretraining_over_fifty_shards_gives_the_weights_of_one(project: Path) -> None:
    stage("download", "text", "data/raw/text", "metrics.json")
    stage("download", "tokenizer", "data/raw/tokenizer", "metrics.json")
    stage("tokenize_text", "data/raw/text", "data/raw/tokenizer", "data/tokenizer", "data/tokens", "metrics.json")
    weights = []
    raw = Path("data/raw/text")
    for part_bytes in (10**9, (raw / "documents.jsonl").stat().st_size // 50):
        source = Path("data/tokens/source.json").read_bytes()
        encode_corpus(
            raw, "hash", Path("data/tokenizer"), Path("data/tokens"), processes=1, progress=False, part_bytes=part_bytes
        )
        Path("data/tokens/source.json").write_bytes(source)
        stage("sample", "data/tokens", "data/samples", "metrics.json")
        stage("pretrain", *PRETRAIN)
        weights.append(sha256_file("models/pretrain/model.safetensors"))
    assert len(read_json("data/tokens/meta.json")["shard_tokens"]) >= 50
    assert read_json("metrics.json")["steps"] > 300
    assert weights[0] == weights[1]
