"""Whatever the standard streams are, a command ends with a result or one line, never with a traceback."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from structure import ROOT

from llmcore.cli import parser

COMMANDS = {
    "": "--help",
    "generate": "generate hi --model none",
    "classify": "classify --model none",
    "ask": "ask hi --model none",
    "info": "info none",
    "compare": "compare none none",
    "show-batch": "show-batch classifier --step -1",
    "register": "register base --model none",
    "preset": "preset",
    "lineage": "lineage none/none",
    "export": "export --help",
    "fsck": "fsck --help",
    "verify": "verify --help",
    "chat": "chat --model none",
    "evaluate": "evaluate none none.csv",
    "serve": "serve none --port 0",
    "plan": "plan --help",
    "join": "join --help",
}
REDIRECTIONS = [">&-", ">/dev/full", "2>&-", "2>/dev/full", "<&-", "</dev/null", "<&- >&- 2>&-", "0>/dev/null"]


def test_every_command_is_tried() -> None:
    [commands] = [action.choices for action in parser()._actions if action.choices]
    assert set(COMMANDS) == {"", *commands}


def run(command: str, redirection: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    line = f"{sys.executable} -m {command} {redirection}"
    variables = os.environ | {"MLFLOW_TRACKING_URI": "", "PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(["bash", "-c", line], cwd=ROOT, env=variables, capture_output=True, text=True)


# of every command one redirection, and of every redirection one command; all pairs take minutes
PAIRS = list(product(COMMANDS, [">/dev/full"])) + list(product(["preset", "classify"], REDIRECTIONS))


@pytest.mark.parametrize(("command", "redirection"), PAIRS)
def test_redirected_command_ends_without_a_traceback(command: str, redirection: str) -> None:
    done = run(f"llmcore.cli {COMMANDS[command]}", redirection)
    lines = done.stderr.splitlines()
    assert done.returncode in (0, 2)
    assert len(lines) <= 1
    assert all(line.startswith("error: ") for line in lines)
    if "no" not in COMMANDS[command] and redirection == ">/dev/full" and command != "show-batch":
        reason = "(No space left on device); redirect it to another place"
        assert (done.returncode, lines) == (2, [f"error: standard output: cannot be written {reason}"])


@pytest.mark.parametrize(("command", "code"), [("llmcore.cli preset", 2), ("llmcore.tracking.ui", 2)])
def test_closed_standard_output_is_named(command: str, code: int) -> None:
    done = run(command, ">&-")
    assert (done.returncode, done.stderr.partition(";")[0]) == (code, "error: standard output: is closed")


ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
OLD_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("locale", [ASCII, OLD_LOCALE, {"PYTHONIOENCODING": "latin-1"}])
def test_terminal_that_is_not_utf8_shows_other_characters_as_escapes(locale: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "presets").mkdir()
    line = f"cd {tmp_path}; touch presets/gr\u20acen.yaml; {sys.executable} -m llmcore.cli preset"
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | locale
    done = subprocess.run(["bash", "-c", line], env=variables, capture_output=True)
    assert done.stderr == b""
    assert done.returncode == 0
    assert done.stdout in (b"gr\\u20acen\n", b"gr\\udce2\\udc82\\udcacen\n")


ECHO = """
import sys
from llmcore.base.errors import run_entry_point
from llmcore.base.streams import utf8_text
def work():
    assert utf8_text(sys.argv[1]) == "gr\\u20acen", ascii(sys.argv[1])
    assert sys.stdin.read() == "bl\\u20acu", "standard input"
sys.exit(run_entry_point(work, prints_result=True))
"""


@pytest.mark.parametrize("locale", [ASCII, OLD_LOCALE, {"PYTHONIOENCODING": "latin-1"}])
def test_arguments_and_standard_input_are_utf8_in_every_locale(locale: dict[str, str]) -> None:
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | locale
    command = [sys.executable, "-c", ECHO, "gr\u20acen"]
    done = subprocess.run(command, cwd=ROOT, env=variables, input="bl\u20acu".encode(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_argument_of_other_bytes_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-m", "llmcore.cli", "info", b"\xff"], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: argument '\\udcff': must be UTF-8 text; convert it\n"


STAGE = """
import sys
from llmcore.base.errors import run_entry_point
def work():
    print("a word" * 10000, flush=True)
    print("a word" * 10000, file=sys.stderr)
    open(sys.argv[1], "w").write("done")
sys.exit(run_entry_point(work, prints_result=False))
"""


@pytest.mark.parametrize("redirection", [*REDIRECTIONS, "> >(true)"])
def test_stage_goes_on_whatever_becomes_of_its_words(redirection: str, tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(STAGE)
    line = f"{sys.executable} stage.py result {redirection}"
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0
    assert (tmp_path / "result").read_text() == "done"
    assert "Traceback" not in done.stderr
