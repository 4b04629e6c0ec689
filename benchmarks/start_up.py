"""Waiting times: the command's help, a `dvc repro` that has nothing to do, `make ui` until it answers.

python -m benchmarks.start_up
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from benchmarks.side_by_side import Row, take_turns, tell

ROUNDS = 7
BESIDE = Path(sys.executable).parent  # where the environment's commands are


def seconds(command: list[str]) -> float:
    return take_turns({"": lambda: subprocess.run(command, check=True, capture_output=True)}, rounds=ROUNDS)[""]


def ui_seconds() -> float:
    """Return how long it takes until MLflow's pages over this project's runs are answered."""
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "llmcore.tracking.ui"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout
            link = next(match[0] for line in process.stdout if (match := re.search(r"http://[\w.:]+/", line)))
            while not answers(link):
                time.sleep(0.05)
            return time.perf_counter() - begin
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def answers(link: str) -> bool:
    try:
        with urlopen(link) as page:
            return page.status == 200
    except OSError:
        return False


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
    if (Path(__file__).parents[1] / "mlflow.db").is_file():
        rows.append(Row("make ui, until it answers", "seconds", ui_seconds(), {}, False, "below 10"))
    tell(rows)


if __name__ == "__main__":
    main()
