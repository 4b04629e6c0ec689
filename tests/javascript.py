"""The page's modules, run by Node."""

import json
import shutil
import subprocess
from typing import Any

import pytest
from structure import ROOT

ASSETS = ROOT / "llmcore/page/assets"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no Node on this machine")

SCRIPT = """
const answer = async ({ %s }, given) => %s;
const modules = await Promise.all(%s.map((file) => import(file)));
const given = JSON.parse((await import("node:fs")).readFileSync(0, "utf-8"));
console.log(JSON.stringify(await answer(Object.assign({}, ...modules), given)));
"""


def evaluate(expression: str, given: Any, **names: str) -> Any:
    """Return the value of an expression in which `given` is the input, and `names` come from files of the page.

    `evaluate("choose(given)", [1, 2], sampling="choose")`
    """
    files = json.dumps([(ASSETS / f"{name}.js").as_uri() for name in names])
    script = SCRIPT % (", ".join(names.values()), expression, files)
    command = ["node", "--input-type=module", "--eval", script]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
