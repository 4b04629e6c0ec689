"""`llmcore generate` and `ask`: where prompts come from, what is written, and when."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmcore.generate.open import open_language_model
from llmcore.generate.write import continue_texts

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, config: Any, tokenizer: Any, randomised: Any) -> Path:
    from llmcore.model.folder import save_language_model
    from llmcore.model.registry import new_model

    folder = tmp_path_factory.mktemp("models") / "lm"
    save_language_model(folder, randomised(new_model(config), seed=2), tokenizer=tokenizer, origin={})
    return folder


@pytest.fixture
def llmcore(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    from llmcore.cli import main

    def call(command: str, *arguments: str) -> tuple[int, str, str]:
        code = main([command, *arguments, "--model", str(folder)])
        return code, *capsys.readouterr()

    return call


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


SHORT = ["--max-new-tokens", "6"]


def test_the_prompt_comes_from_argument_file_or_standard_input(
    llmcore: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = llmcore("generate", "Anna had", *SHORT)
    file = tmp_path / "prompt.txt"
    file.write_text("Anna had\n")
    assert llmcore("generate", "--file", str(file), *SHORT) == expected
    stdin(monkeypatch, b"Anna had\n")
    assert llmcore("generate", "-", *SHORT) == expected
    assert expected[0] == 0


def test_prompts_of_a_jsonl_file_become_json_lines(llmcore: Command, folder: Path, tmp_path: Path) -> None:
    prompts = [f"{word} had" for word in ("Anna", "Ben", "a", "ball", "Ann", "the", "He", "She", "gave", "Anna")]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    code, out, errors = llmcore("generate", "--file", str(file), "--json", *SHORT)
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, errors) == (0, "")
    assert [row["prompt"] for row in rows] == prompts
    assert {row["finish_reason"] for row in rows} <= {"stop", "length"}
    assert rows[0]["text"] != rows[9]["text"]  # the same prompt, drawn again


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ('{"text": "a"}\n', r"line 1 must have a text `prompt`, got None; add it"),
        ("", "must have at least one row, got none; add one"),
        ('{"prompt": 3}\n', r"line 1 must have a text `prompt`, got 3; add it"),
    ],
)
def test_a_row_without_a_prompt_is_refused(llmcore: Command, tmp_path: Path, content: str, rule: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(content)
    assert llmcore("generate", "--file", str(file)) == (2, "", f"error: {file}: {rule}\n")


def test_a_prompt_beside_a_file_is_refused(llmcore: Command) -> None:
    code, _, errors = llmcore("generate", "Anna", "--file", "x.txt")
    assert (code, errors) == (2, "error: --file: cannot be given beside a prompt; leave one of them out\n")


def test_what_is_streamed_is_the_text_of_the_library(llmcore: Command, folder: Path) -> None:
    from dataclasses import replace

    from llmcore.config.generation import STORY

    model, tokenizer = open_language_model(folder)
    config = replace(STORY, max_new_tokens=9, seed=4, repetition_penalty=1.2, min_p=0.01, stop=("e",))
    [expected] = continue_texts(model, tokenizer, ["Anna"], config)
    options = "--max-new-tokens 9 --seed 4 --repetition-penalty 1.2 --min-p 0.01 --stop e".split()
    assert llmcore("generate", "Anna", *options) == (0, f"Anna{expected.text}\n", "")


def test_tokens_are_written_as_they_come(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmcore.cli import main

    writes: list[str] = []

    class Watched(io.StringIO):
        def write(self, text: str) -> int:
            writes.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stdout", Watched())
    main(["generate", "Anna", "--model", str(folder), "--max-new-tokens", "8", "--seed", "1"])
    assert len([text for text in writes if text.strip()]) > 3


def test_a_full_context_is_said(llmcore: Command) -> None:
    code, _, errors = llmcore("generate", "Anna", "--max-new-tokens", "500", "--temperature", "0")
    assert (code, errors) == (0, "the text ends here: the model's context of 24 tokens is full\n")


def test_a_model_that_may_not_have_learned_to_answer_is_named(llmcore: Command, folder: Path) -> None:
    _, _, errors = llmcore("ask", "Say hi.", *SHORT)
    assert errors.splitlines()[0] == f"{folder}: names no form of prompts, so it may not have learned to answer"


def test_several_continuations_and_beams(llmcore: Command) -> None:
    code, out, _ = llmcore("generate", "Anna", "-n", "3", "--json", *SHORT)
    rows = [json.loads(line)["text"] for line in out.splitlines()]
    assert (code, len(rows), len(set(rows)) > 1) == (0, 3, True)
    greedy = llmcore("generate", "Anna", "--num-beams", "3", "--temperature", "0", *SHORT)
    assert greedy == llmcore("generate", "Anna", "--num-beams", "3", *SHORT)
    assert greedy[0] == 0
    code, _, errors = llmcore("generate", "Anna", "--num-beams", "3", "--temperature", "0.8", *SHORT)
    assert (code, errors) == (
        2,
        "error: --temperature: must be 0 with --num-beams above 1, got 0.8; correct either\n",
    )


def test_explain_shows_probabilities_that_are_the_models(llmcore: Command, folder: Path) -> None:
    code, out, _ = llmcore("generate", "Anna", "--explain", "3", "--json", "--temperature", "0", *SHORT)
    row = json.loads(out)
    assert code == 0
    assert "".join(token["text"] for token in row["tokens"]) == row["text"]
    for token in row["tokens"]:
        assert token["alternatives"][0] == [token["text"], token["probability"]]  # greedy: the likeliest
        assert len(token["alternatives"]) == 3
    lines = llmcore("generate", "Anna", "--explain", "--temperature", "0", *SHORT)[1].splitlines()
    assert len(lines) == 6
    assert all(line.count("%") == 6 for line in lines)


@pytest.mark.parametrize("option", ["--suppress-tokens", "--forced-tokens"])
def test_ids_on_the_command_line(llmcore: Command, option: str) -> None:
    assert llmcore("generate", "Anna", option, "3,4", *SHORT)[0] == 0
    assert llmcore("generate", "Anna", option, "a", *SHORT)[0] == 2
    assert "must be ids from 0 to" in llmcore("generate", "Anna", option, "99999", *SHORT)[2]
