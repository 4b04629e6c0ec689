"""Values from params.yaml reach a stage as one argument, whatever characters a path holds."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from structure import stages

NAMES = ["plain", "a b", "a  b ", "it's", "a(b)", "[a]", "a;b&c", "a|b<c>d", "*", "~", "#a", "-a", "ä日", "%a%", "!a"]
STUB = "import json, sys\nprint('argv', json.dumps(sys.argv[1:]), file=open('seen.jsonl', 'a'))\n"


@pytest.mark.parametrize("name", stages())
def test_every_value_in_a_command_is_quoted(name: str) -> None:
    without_quoted = re.sub(r'"[^"]*"', "", stages()[name]["cmd"])
    assert "${" not in without_quoted


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows fewer characters in a path")
def test_dvc_passes_a_path_with_any_character_but_those_of_double_quotes_as_one_argument(tmp_path: Path) -> None:
    """The command of load_gpt2, run by DVC once for each path."""
    command = stages()["load_gpt2"]["cmd"].replace("${weights.path}", "${item}").replace("python", sys.executable, 1)
    pipeline = {"stages": {"load": {"foreach": NAMES, "do": {"cmd": command, "deps": ["${item}"]}}}}
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "__main__.py").write_text(STUB, encoding="utf-8")
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}", encoding="utf-8")
    with open(tmp_path / "dvc.yaml", "w", encoding="utf-8") as file:
        YAML().dump(pipeline, file)
    for arguments in (["init", "--no-scm"], ["repro"]):
        subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=tmp_path, check=True, capture_output=True)
    lines = (tmp_path / "seen.jsonl").read_text(encoding="utf-8").splitlines()
    seen = [json.loads(line.removeprefix("argv ")) for line in lines]
    assert sorted(arguments[1] for arguments in seen) == sorted(NAMES)
    assert {(arguments[0], arguments[2], len(arguments)) for arguments in seen} == {("load_gpt2", "data/raw/text", 9)}
