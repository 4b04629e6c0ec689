"""What a stage reads is what meta.json, and what it makes is what params.yaml, promises."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML
from structure import ROOT
from workspace import enter_project

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, write_json
from llmcore.config.read import read_params
from llmcore.data.meta import check_counts
from llmcore.data.tokens import open_tokens
from stages import download, prepare_instructions, prepare_spam, tokenize_text

COUNTS = {"text": "documents", "spam": "rows", "instructions": "rows"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The raw folders of a small world."""
    enter_project(tmp_path, monkeypatch)
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for item, count in (("text", "stories"), ("spam", "rows"), ("instructions", "rows")):
        params["sources"][item][count] = 300
    params["runtime"] |= {"progress": False, "tracking": False}
    with open("params.yaml", "w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params, file)
    for item in (*COUNTS, "tokenizer"):
        download.main([item, f"data/raw/{item}", "metrics.json"])
    return tmp_path


def use(item: str) -> None:
    if item == "text":
        tokenize_text.main(["data/raw/text", "data/raw/tokenizer", "data/tokenizer", "data/tokens", "metrics.json"])
    else:
        stage: Any = prepare_spam if item == "spam" else prepare_instructions
        stage.main([f"data/raw/{item}", f"data/{item}", "metrics.json", "tables"])


@pytest.mark.parametrize("item", COUNTS)
def test_a_raw_folder_with_other_rows_than_its_meta_promises_is_refused(project: Path, item: str) -> None:
    use(item)
    meta = project / "data/raw" / item / "meta.json"
    write_json(meta, read_json(meta) | {COUNTS[item]: 299})
    with pytest.raises(UserError, match=rf"meta.json: promises {COUNTS[item]} 299, found 300; run `dvc repro --force`"):
        use(item)


@pytest.mark.parametrize("item", COUNTS)
def test_a_raw_folder_with_fewer_rows_than_its_meta_promises_is_refused(project: Path, item: str) -> None:
    meta = read_json(project / "data/raw" / item / "meta.json")
    file = project / "data/raw" / item / meta.get("file", "documents.jsonl")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:200]))
    with pytest.raises(UserError, match=rf"promises {COUNTS[item]} 300, found (199|200)"):
        use(item)


@pytest.mark.parametrize("item", COUNTS)
def test_the_world_must_write_what_params_ask_for(project: Path, item: str) -> None:
    sources = read_params().sources
    made = read_json(project / "data/raw" / item / "meta.json")
    download.check_promise(sources, item, made)
    with pytest.raises(UserError, match=rf"params.yaml: sources.{item}: promises {COUNTS[item]} 300, found 12"):
        download.check_promise(sources, item, made | {COUNTS[item]: 12})


def test_every_download_is_checked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for item in COUNTS:
        monkeypatch.setattr(download, "write_raw", lambda *_: {"kind": "world", "documents": 1, "rows": 1})
        with pytest.raises(UserError, match="promises"):
            download.main([item, "out", "metrics.json"])


def test_a_token_folder_with_other_documents_is_refused(project: Path) -> None:
    use("text")
    np.save(project / "data/tokens/documents.npy", np.arange(5))
    with pytest.raises(UserError, match=r"data/tokens/meta.json: promises documents 300, found 5"):
        open_tokens(project / "data/tokens")


def test_a_meta_without_the_count_is_refused() -> None:
    with pytest.raises(UserError, match=r"meta\.json: promises rows None, found 3"):
        check_counts("meta.json", json.loads("{}"), rows=3)
