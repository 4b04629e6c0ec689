"""A corpus larger than memory should be: written by the world, tokenized in one and in two processes, killed twice.

    python -m benchmarks.large_corpus --megabytes 2000

Works in a copy of the last commit. Memory is the sum over a stage's processes of what each has for itself and its part
of what they share (PSS), read four times a second. Ends with an error if the hashes differ.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from llmcore.base.files import sha256_folder
from llmcore.base.numerics import cpu_name
from llmcore.base.project import project_root

STORY_BYTES = 251  # about
SAMPLE_BYTES = 100_000_000  # that the tokenizer is learned from
DOWNLOAD = "download text data/raw/text reports/download_text/metrics.json"
TOKENIZE = "tokenize_text data/raw/text data/raw/tokenizer data/tokenizer data/tokens reports/tokenize/metrics.json"
KILLED_AT = (0.3, 0.7)  # of the parts
POLL_SECONDS = 0.25


@dataclass
class Cost:
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def processes_of(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def run(folder: Path, stage: str, is_over: Callable[[], bool] = lambda: False) -> Cost:
    """Run a stage to its end, or kill it with its processes once `is_over`; return what it cost."""
    cost, begin = Cost(), time.perf_counter()
    cpu_seconds: dict[int, float] = {}
    started = psutil.Popen([sys.executable, "-m", "stages", *stage.split()], cwd=folder)
    while started.poll() is None:
        peak_bytes = 0
        for process in processes_of(started):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                peak_bytes += process.memory_full_info().pss
                cpu_seconds[process.pid] = sum(process.cpu_times()[:2])
        cost.peak_bytes = max(cost.peak_bytes, peak_bytes)
        if is_over():
            for process in processes_of(started):
                process.kill()
        time.sleep(POLL_SECONDS)
    cost.seconds, cost.cpu_seconds = time.perf_counter() - begin, sum(cpu_seconds.values())
    return cost


def set_params(folder: Path, megabytes: int, processes: int) -> None:
    yaml, path = YAML(), folder / "params.yaml"
    params = yaml.load(path.read_text(encoding="utf-8"))
    params["sources"]["text"]["stories"] = megabytes * 1_000_000 // STORY_BYTES
    params["tokenizer"]["sample_bytes"] = SAMPLE_BYTES
    params["runtime"]["processes"] = processes
    with open(path, "w", encoding="utf-8") as file:
        yaml.dump(params, file)


def written_share(folder: Path, text_bytes: int) -> float:
    """Return about what share of the parts is written."""
    return len(list(folder.glob(".ckpt/tokenize/*/*/*/meta.json"))) * (64 << 20) / text_bytes


def tell(name: str, text_bytes: int, cost: Cost) -> None:
    rates = f"{text_bytes / 1e6 / cost.seconds:6.1f} MB/s {text_bytes / 1e6 / cost.cpu_seconds:6.1f} MB per CPU second"
    print(f"{name:24} {cost.seconds:6.0f} s {rates} {cost.peak_bytes / 1e6:6.0f} MB at most", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=2000, metavar="N", help="of text (default: %(default)s)")
    megabytes = parser.parse_args().megabytes
    print(cpu_name())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "project")
        subprocess.run(["git", "clone", "-q", project_root(), folder], check=True)
        (folder / "data/raw/tokenizer").mkdir(parents=True)
        set_params(folder, megabytes, 1)
        cost = run(folder, DOWNLOAD)
        text_bytes = (folder / "data/raw/text/documents.jsonl").stat().st_size
        tell("written by the world", text_bytes, cost)
        hashes = []
        for processes in (1, 2):
            set_params(folder, megabytes, processes)
            tell(f"tokenized, processes: {processes}", text_bytes, run(folder, TOKENIZE))
            hashes.append(sha256_folder(folder / "data/tokens"))
        for share in KILLED_AT:
            killed = run(folder, TOKENIZE, lambda share=share: written_share(folder, text_bytes) > share)  # type: ignore[misc]
            tell(f"killed at {share:.0%}", text_bytes, killed)
        tell("and its end", text_bytes, run(folder, TOKENIZE))
        hashes.append(sha256_folder(folder / "data/tokens"))
    if len(set(hashes)) > 1:
        sys.exit(f"the tokens must have one hash, got {hashes}")
    print(f"equal hashes: {hashes[0]}")


if __name__ == "__main__":
    main()
