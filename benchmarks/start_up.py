"""Waiting times: the command's help, and a `dvc repro` that has nothing to do.

python -m benchmarks.start_up
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.side_by_side import Row, take_turns, tell

ROUNDS = 7
BESIDE = Path(sys.executable).parent  # where the environment's commands are


def seconds(command: list[str]) -> float:
    return take_turns({"": lambda: subprocess.run(command, check=True, capture_output=True)}, rounds=ROUNDS)[""]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    interpreter = seconds([sys.executable, "-c", "pass"])
    helped = seconds([str(BESIDE / "llmcore"), "--help"])
    nothing = seconds([str(BESIDE / "dvc"), "repro"])
    version = seconds([str(BESIDE / "dvc"), "--version"])
    rows = [
        Row("llmcore --help", "seconds", helped, {"python -c pass": interpreter}, False, "below 0.2"),
        Row("dvc repro, nothing to do", "seconds", nothing, {"dvc --version": version}, False, "below 1.5"),
    ]
    tell(rows)


if __name__ == "__main__":
    main()
