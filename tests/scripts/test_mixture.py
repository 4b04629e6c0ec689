"""A mixture of text sources goes through the stages, from its files to a model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML
from structure import ROOT
from workspace import enter_project

from llmcore.base.errors import UserError
from llmcore.base.files import read_csv, read_json, read_jsonl, sha256_folder
from llmcore.data.samples import read_samples, validation_texts
from llmcore.data.tokens import open_tokens
from llmcore.tokenizer.bpe import load_byte_pair_tokenizer
from stages import download, sample, tokenize_text

LETTERS = [f"letter {number}: dear Ann, the weather is fine and the {number} hens are well." for number in range(120)]
PARTS: list[dict[str, Any]] = [
    {"name": "stories", "kind": "world", "stories": 150, "seed": 1},
    {"name": "letters", "kind": "local", "files": "letters/*.jsonl", "text_column": "text"},
]
SMALL = {"n_layer": 1, "n_head": 2, "n_embd": 16}
PRETRAIN = ["data/samples", "data/tokens", "data/tokenizer", "models/pretrain", "metrics/pretrain.json", "tables"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter_project(tmp_path, monkeypatch)
    (tmp_path / "own/letters").mkdir(parents=True)
    write_letters(LETTERS)
    params = YAML(typ="safe").load((ROOT / "presets/quickstart.yaml").read_text(encoding="utf-8"))
    params["sources"]["text"] |= {"kind": "mixture", "path": "own", "parts": PARTS}
    params["sample"] |= {"val_fraction": 0.1, "weights": {"letters": 3, "stories": 1}}
    params["tokenizer"]["vocab_size"] = 400
    params["model"] |= SMALL
    params["pretrain"] |= {"epochs": 2, "batch_size": 8, "sample_tokens": 4}
    params["runtime"] |= {"processes": 1, "progress": False, "tracking": False}
    save(params)
    return tmp_path


def save(params: dict[str, Any]) -> None:
    with open("params.yaml", "w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params, file)


def change(section: str, **values: Any) -> None:
    params = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
    found = params
    for part in section.split("."):
        found = found[part]
    found |= values
    save(params)


def write_letters(texts: list[str]) -> None:
    Path("own/letters/a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def metrics(stage: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(f"metrics/{stage}.json")
    return found


def run_data_stages() -> None:
    Path("metrics").mkdir(exist_ok=True)
    for item in ("text", "tokenizer"):
        download.main([item, f"data/raw/{item}", f"metrics/{item}.json"])
    folders = ["data/raw/text", "data/raw/tokenizer", "data/tokenizer", "data/tokens"]
    tokenize_text.main([*folders, "metrics/tokenize.json"])
    sample.main(["data/tokens", "data/samples", "metrics/sample.json"])


def pretrain() -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "stages", "pretrain", *PRETRAIN], env=environment, check=True)
    return metrics("pretrain")


def test_documents_know_their_source_and_are_counted(project: Path) -> None:
    write_letters([*LETTERS, LETTERS[0]])
    run_data_stages()
    rows = list(read_jsonl("data/raw/text/documents.jsonl"))
    assert [row["source"] for row in rows] == ["stories"] * 150 + ["letters"] * 121
    assert not any("nats" in row for row in rows)  # no floor of the whole is known
    found = metrics("text")
    assert (found["documents"], found["equal_documents"]) == (271, 1)
    assert (found["source/stories/documents"], found["source/letters/documents"]) == (150, 121)
    assert found["source/letters/bytes"] == sum(map(len, [*LETTERS, LETTERS[0]]))
    assert found["bytes"] == found["source/stories/bytes"] + found["source/letters/bytes"]
    assert [source["kind"] for source in read_json("data/raw/text/meta.json")["sources"]] == ["world", "local"]


def test_tokens_of_the_sources_are_those_of_the_whole(project: Path) -> None:
    run_data_stages()
    tokens, tokenizer = open_tokens("data/tokens"), load_byte_pair_tokenizer("data/tokenizer")
    stories, letters = tokens.sources
    assert (stories.name, stories.begin, letters.name, letters.end) == ("stories", 0, "letters", len(tokens.ids))
    assert tokenizer.decode(tokens.ids[letters.begin :][: len(tokenizer.encode(LETTERS[0]))].tolist()) == LETTERS[0]
    found = metrics("tokenize")
    assert found["source/stories/tokens"] == stories.end == letters.begin
    assert found["source/letters/tokens"] == letters.end - letters.begin


@pytest.mark.parametrize("window_start", ["documents", "stride"])
def test_the_end_of_each_source_validates_and_no_window_crosses_a_source(project: Path, window_start: str) -> None:
    change("sample", window_start=window_start, window_tokens=40, stride_tokens=17)
    run_data_stages()
    tokens, samples = open_tokens("data/tokens"), read_samples("data/samples")
    counts = [(source.train_windows, source.val_windows) for source in samples.sources]
    assert np.sum(counts, axis=0).tolist() == [len(samples.train), len(samples.val)]
    at = [0, 0]
    for span, cut, numbers in zip(tokens.sources, samples.val_positions, counts, strict=True):
        assert (span.end - cut) / (span.end - span.begin) == pytest.approx(0.1, rel=0.2)
        for part, (windows, begin, end) in enumerate(
            [(samples.train, span.begin, cut), (samples.val, cut, span.end)],
        ):
            chosen = windows[np.arange(at[part], at[part] + numbers[part])]
            first_targets, last_targets = chosen["place"] + 1, chosen["place"] + chosen["count"]
            assert begin <= first_targets.min() <= last_targets.max() <= end
            at[part] += numbers[part]
    assert sum(source.train_tokens for source in samples.sources) == samples.train["count"].sum()
    found = metrics("sample")
    assert found["source/letters/epoch_windows"] == pytest.approx(0.75 * len(samples.train), abs=1)
    if window_start == "documents":
        assert (found["train_coverage"], found["val_coverage"]) == (1.0, 1.0)
        texts = validation_texts(
            "data/raw/text", tokens, samples, load_byte_pair_tokenizer("data/tokenizer").token_bytes
        )
        stories = [row["text"] for row in read_jsonl("data/raw/text/documents.jsonl")][:150]
        n_letters = sum(text.startswith("letter ") for text in texts)
        assert texts == stories[n_letters - len(texts) :] + LETTERS[-n_letters:]


def test_weights_change_the_samples_and_nothing_before_them(project: Path) -> None:
    run_data_stages()
    before = {name: sha256_folder(f"data/{name}") for name in ("raw/text", "tokens", "samples")}
    change("sample", weights={})
    run_data_stages()
    after = {name: sha256_folder(f"data/{name}") for name in before}
    assert {name for name in before if before[name] != after[name]} == {"samples"}
    for source in read_samples("data/samples").sources:
        assert source.epoch_windows == source.train_windows


def test_a_mixture_of_worlds_has_a_floor(project: Path) -> None:
    others = {"name": "others", "kind": "world", "stories": 100, "seed": 2}
    change("sources.text", parts=[PARTS[0], others])
    change("sample", weights={})
    run_data_stages()
    tokens, samples = open_tokens("data/tokens"), read_samples("data/samples")
    nats = [row["nats"] for row in read_jsonl("data/raw/text/documents.jsonl")]
    validates = [
        any(cut <= start < span.end for span, cut in zip(tokens.sources, samples.val_positions, strict=True))
        for start in tokens.starts
    ]
    assert 20 < sum(validates) < 30
    assert samples.floor_nats == pytest.approx(sum(np.array(nats)[validates]))


@pytest.mark.slow
def test_a_model_learns_from_each_source_by_its_weight(project: Path) -> None:
    run_data_stages()
    found = pretrain()
    samples = read_samples("data/samples")
    assert found["steps"] == 2 * -(-len(samples.train) // 8)
    for source in samples.sources:
        assert found[f"source/{source.name}/passes"] == 2 * source.epoch_windows / source.train_windows
    assert found["source/letters/tokens_seen"] + found["source/stories/tokens_seen"] == pytest.approx(
        found["tokens_seen"], rel=0.02
    )
    val_tokens = read_samples("data/samples").val["count"]
    edge = samples.sources[0].val_windows
    by_source = (
        val_tokens[:edge].sum() * found["val/stories/loss"] + val_tokens[edge:].sum() * found["val/letters/loss"]
    )
    assert found["val/loss"] == pytest.approx(by_source / val_tokens.sum(), rel=1e-6)
    assert {"val/stories/loss", "val/letters/loss"} <= read_csv("tables/evaluations.csv")[0].keys()
    change("sample", weights={"letters": 1, "stories": 20})
    sample.main(["data/tokens", "data/samples", "metrics/sample.json"])
    change("pretrain", tokens=round(3.3 * metrics("sample")["epoch_tokens"]))
    other = pretrain()
    assert other["tokens_seen"] == pytest.approx(3.3 * metrics("sample")["epoch_tokens"], rel=0.05)
    assert other["val/letters/loss"] > found["val/letters/loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sources.text": {"path": "own/letters/a.jsonl"}},
            r"sources.text.path: must be the folder in which the files",
        ),
        (
            {"sources.text": {"parts": [PARTS[1] | {"files": "*.txt"}]}, "sample": {"weights": {}}},
            r"matches '\*.txt', found none; add one or correct sources.text.path or sources.text.parts.0.files",
        ),
        (
            {"sources.text": {"parts": [*PARTS, PARTS[1] | {"name": "again"}]}, "sample": {"weights": {}}},
            r"^sources.text.parts: files of 'again' must be files of no other part, and letters/.* is in 'letters' too",
        ),
        (
            {"sample": {"weights": {"letters": 1e9, "stories": 1e-3}}},
            r"^sample.weights.stories must give each source a w",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused(project: Path, changes: dict[str, Any], message: str) -> None:
    for section, values in changes.items():
        change(section, **values)
    with pytest.raises(UserError, match=message):
        run_data_stages()


def test_a_source_without_a_window_for_both_parts_is_named(project: Path) -> None:
    write_letters(["Dear Ann"])
    with pytest.raises(
        UserError, match=r"^sample.window_tokens must leave a window in each part of the source 'letters'"
    ):
        run_data_stages()


def test_a_source_of_which_nothing_is_left_is_named(project: Path) -> None:
    """Its documents all repeat those of the source before it."""
    change("sources.text", near_duplicates="drop", parts=[PARTS[0], PARTS[0] | {"name": "again"}])
    change("sample", weights={})
    with pytest.raises(UserError, match=r"^sources.text.near_duplicates: drop must leave a document of 'again'"):
        run_data_stages()


def test_weights_of_other_sources_than_the_tokens_have_are_refused(project: Path) -> None:
    """As when a stage is run by hand before the one that it depends on."""
    run_data_stages()
    change("sources.text", parts=[PARTS[0] | {"name": "tales"}, PARTS[1]])
    change("sample", weights={"tales": 1, "letters": 1})
    with pytest.raises(UserError, match=r"sample.weights must name the sources stories, letters, got letters, tales"):
        sample.main(["data/tokens", "data/samples", "metrics/sample.json"])
