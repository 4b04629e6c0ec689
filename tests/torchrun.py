"""Starts a script in several processes, as `llmcore.run.launch` starts those of a stage."""

import os
import subprocess
import sys
from pathlib import Path

from structure import ROOT

from llmcore.base.parallel import RUN_ID


def run_script(script: Path, processes: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a Python script that may import from tests/ and tests/train; alone, if `processes` is 1."""
    torchrun = f"-m torch.distributed.run --nproc-per-node {processes} --rdzv-backend c10d --rdzv-endpoint localhost:0"
    launcher = [*torchrun.split(), "--local-addr", "localhost", "--rdzv-id", f"{RUN_ID}1"] if processes > 1 else []
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests/train")))
    return subprocess.run(
        [sys.executable, *launcher, str(script), *arguments],
        env=os.environ | {"PYTHONPATH": paths, "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
