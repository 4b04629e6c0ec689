"""The command `llmcore` on model folders of a few weights."""

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structure import ROOT

from llmcore.base.files import write_json, write_jsonl
from llmcore.cli import EXAMPLES, main, parser
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.folder import save_classifier, save_language_model
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.prompt import encode_prompt


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory,
    config: GPT2Config,
    tokenizer: BytePairTokenizer,
    randomised: Callable[..., Any],
) -> Path:
    """A project's models/: pretrain, instruct (with room for a prompt) and classifier."""
    root = tmp_path_factory.mktemp("project")
    length = len(encode_prompt(tokenizer, "alpaca", "Say hi.", "").ids)
    roomy = GPT2Config(**{**vars(config), "context_length": length + 30})
    for name, shape in (("pretrain", config), ("instruct", roomy)):
        folder, model = root / "models" / name, randomised(new_model(shape))
        save_language_model(folder, model, tokenizer=tokenizer, origin={}, extra={"prompt_form": "alpaca"})
    classifier = randomised(SequenceClassifier(new_model(config).body, ["ham", "spam"], "last_real", 20))
    state = classifier.state_dict()
    save_classifier(root / "models/classifier", classifier, state, tokenizer=tokenizer, origin={})
    return root


@pytest.fixture
def llmcore(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in the project; exit code, output and errors."""
    monkeypatch.chdir(folders)

    def call(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


Command = Callable[..., tuple[int, str, str]]

# ---- help and options


def test_help_loads_nothing_heavy() -> None:
    """`--help` must be instant: torch alone takes seconds to load."""
    script = (
        "import sys\nfrom llmcore.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert EXAMPLES in done.stdout
    assert not {"torch", "mlflow", "numpy", "pandas", "pydantic", "tiktoken"} & set(done.stderr.split())


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_closed_pipe_is_no_error(unbuffered: str) -> None:
    """`llmcore preset | head -1` ends with exit code 0 and no message."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "llmcore.cli", "preset"]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open(writing, "wb") as pipe:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        *("", "generate", "classify", "ask", "info", "compare", "show-batch", "register", "preset", "lineage"),
        *("fsck", "verify", "evaluate", "plan"),
    ],
)
def test_every_command_has_help(llmcore: Command, command: str) -> None:
    code, out, _ = llmcore(*command.split(), "--help")
    assert code == 0
    assert out.startswith(f"usage: llmcore {command}".strip())


def test_examples_of_the_help_are_commands() -> None:
    for line in EXAMPLES.splitlines()[1:]:
        program, *arguments = shlex.split(line)
        assert program == "llmcore"
        assert callable(parser().parse_args(arguments).run)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--max-new-tokens 0", "--max-new-tokens: must be positive, got 0; correct it"),
        ("--temperature -1", "--temperature: must be 0 or more, got -1.0; correct it"),
        ("--temperature nan", "--temperature: must be 0 or more, got nan; correct it"),
        ("--top-k -2", "--top-k: must be 0 or more, got -2; correct it"),
        ("--top-p 0", "--top-p: must be above 0 and at most 1, got 0.0; correct it"),
        ("--top-p 1.5", "--top-p: must be above 0 and at most 1, got 1.5; correct it"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "ask"])
def test_option_out_of_range_is_one_error_line(llmcore: Command, command: str, options: str, line: str) -> None:
    assert llmcore(command, "Anna", *options.split()) == (2, "", f"error: {line}\n")


def test_all_options_out_of_range_are_reported_at_once(llmcore: Command) -> None:
    code, _, errors = llmcore("generate", "--top-k", "-1", "--top-p", "2")
    assert (code, len(errors.splitlines())) == (2, 2)


@pytest.mark.parametrize("arguments", [[], ["write"], ["generate", "--top-k", "many"], ["ask"], ["info"]])
def test_wrong_usage_exits_with_2(llmcore: Command, arguments: list[str]) -> None:
    code, out, errors = llmcore(*arguments)
    assert (code, out) == (2, "")
    assert errors.startswith("usage: llmcore")


# ---- generate


def test_generate_continues_the_prompt(llmcore: Command) -> None:
    code, out, errors = llmcore("generate", "Anna had", "--max-new-tokens", "5")
    assert (code, errors) == (0, "")
    assert out.startswith("Anna had")
    assert len(out) > len("Anna had\n")


def test_generate_repeats_itself_under_the_same_seed(llmcore: Command) -> None:
    texts = [llmcore("generate", "Anna", "--seed", seed)[1] for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("command", [["generate", "Anna"], ["ask", "Say yes."]])
def test_generation_with_int8_weights(llmcore: Command, command: list[str]) -> None:
    code, out, errors = llmcore(*command, "--precision", "int8", "--max-new-tokens", "5", "--temperature", "0")
    assert (code, errors.replace("the answer was cut at --max-new-tokens 5\n", "")) == (0, "")
    assert out.strip()


def test_generate_works_without_a_prompt(llmcore: Command) -> None:
    assert llmcore("generate")[0] == 0


def test_generate_refuses_a_prompt_that_fills_the_context(llmcore: Command) -> None:
    code, out, errors = llmcore("generate", "Anna had a red ball. " * 20)
    assert (code, out) == (2, "")
    assert errors.startswith("error: prompt: must have 1 to 23 tokens, got ")


# ---- ask


def test_ask_answers(llmcore: Command) -> None:
    code, out, errors = llmcore("ask", "Say hi.", "--max-new-tokens", "3")
    assert (code, errors) == (0, "the answer was cut at --max-new-tokens 3\n")
    assert out.endswith("\n")


def test_ask_refuses_an_instruction_that_leaves_no_room(llmcore: Command) -> None:
    """An empty answer would look like the model's."""
    code, out, errors = llmcore("ask", "Say hi.", "--input", "ball " * 30)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: instruction: its prompt must have at most \d+ tokens, got \d+; shorten it\n", errors)


# ---- classify


def test_classify_names_the_class_of_each_text(llmcore: Command) -> None:
    code, out, errors = llmcore("classify", "Call now!", "Anna had a ball. " * 20)
    assert (code, errors) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    assert [text for _, _, text in rows] == ["Call now!", "Anna had a ball. " * 20]
    assert all(label in ("ham", "spam") and 0.5 <= float(chance) <= 1 for label, chance, _ in rows)


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_classify_reads_lines_of_standard_input(llmcore: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "Call now!\nÜber\n".encode())
    piped = llmcore("classify")
    assert piped == llmcore("classify", "Call now!", "Über")
    assert piped[0] == 0


@pytest.mark.parametrize("data", [b"", b"hi\n\n"])
def test_classify_refuses_empty_texts(llmcore: Command, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    stdin(monkeypatch, data)
    code, out, errors = llmcore("classify")
    assert (code, out) == (2, "")
    assert errors.startswith("error: TEXT: must not be empty; ")


def test_classify_refuses_bytes_that_are_not_utf8(llmcore: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"Only \xa3 5!\n")
    code, out, errors = llmcore("classify")
    assert (code, out) == (2, "")
    assert errors.startswith("error: standard input: must be UTF-8 text (")


# ---- compare


def test_compare_ends_with_a_plain_sentence(llmcore: Command, tmp_path: Path) -> None:
    for name, guess in (("a", "ham"), ("b", "spam")):
        (tmp_path / f"{name}.csv").write_text("text,label,predicted\n" + f"hi,spam,{guess}\n" * 9)
    code, out, errors = llmcore("compare", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"))
    assert (code, errors) == (0, "")
    assert out.splitlines()[-1].startswith("B is better than A: accuracy 1 against 0")


@pytest.mark.parametrize("confidence", ["0", "1", "95"])
def test_compare_refuses_a_confidence_outside_0_and_1(llmcore: Command, confidence: str) -> None:
    code, _, errors = llmcore("compare", "a", "b", "--confidence", confidence)
    assert (code, errors.startswith("error: --confidence: must be between 0 and 1")) == (2, True)


# ---- show-batch


@pytest.mark.parametrize("task", ["classifier", "instruct"])
def test_show_batch_marks_the_targets(llmcore: Command, folders: Path, task: str) -> None:
    rows = [{"text": "Call now!", "label": "spam", "instruction": "Say hi.", "input": "", "output": "Hi!"}]
    (folders / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for split in ("train", "val"):
        write_jsonl(folders / f"rows/{split}.jsonl", rows)
    write_json(folders / "rows/meta.json", {"labels": ["ham", "spam"]})
    code, out, errors = llmcore("show-batch", task, "--base", "models/pretrain", "--data", "rows")
    assert (code, errors) == (0, "")
    assert {"classifier": "--- spam\nCall now", "instruct": "{+Hi!<|endoftext|>+}"}[task] in out
    assert "\x1b" not in out


# ---- info, preset


def test_info_describes_a_folder(llmcore: Command) -> None:
    code, out, _ = llmcore("info", "models/classifier")
    assert code == 0
    assert "spam" in out


@pytest.mark.parametrize(
    "arguments",
    [
        "generate --model none",
        "classify x --model none",
        "ask x --model none",
        "info none",
        "evaluate none x.csv",
        "register base --model none",
    ],
)
def test_missing_folder_is_one_error_line(llmcore: Command, arguments: str) -> None:
    code, out, errors = llmcore(*arguments.split())
    assert (code, out) == (2, "")
    assert errors == "error: none: no such model folder; run `dvc repro` to build it, or correct the path\n"


def test_preset_lists_and_applies(llmcore: Command, folders: Path) -> None:
    (folders / "presets").mkdir()
    for name in ("quickstart", "book-scratch"):
        (folders / f"presets/{name}.yaml").write_bytes((ROOT / f"presets/{name}.yaml").read_bytes())
    assert llmcore("preset") == (0, "book-scratch\nquickstart\n", "")
    code, out, _ = llmcore("preset", "quickstart")
    assert (code, out.splitlines()[-1]) == (0, "params.yaml is now preset quickstart; run `dvc repro`")
    with open(folders / "params.yaml", "a", encoding="utf-8") as file:
        file.write("# mine\n")
    code, out, errors = llmcore("preset", "book-scratch")
    assert (code, out, len(errors.splitlines())) == (2, "", 1)
    assert llmcore("preset", "book-scratch", "--force")[0] == 0
