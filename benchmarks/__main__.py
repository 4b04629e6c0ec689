"""Run the comparisons with peers and write them down: `benchmarks/results/<machine>.md`.

make bench
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.side_by_side import Row
from llmcore.base.matmul import native_bf16
from llmcore.base.numerics import cpu_name

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "peft", "litgpt", "llms-from-scratch", "tiktoken")


def scripts() -> list[list[str]]:
    """Return the commands; bf16 only where the processor has it."""
    training = [["training", "quickstart"], ["training", "gpt2"], ["processes", "quickstart"], ["processes", "gpt2"]]
    if native_bf16("cpu"):
        training += [[script, "gpt2", "--precision", "bf16"] for script in ("training", "processes")]
        training += [["classification", "--precision", "bf16"]]
    return [*training, ["classification"], ["memory"], ["decoding"], ["corpus"], ["start_up"]]


def run(command: list[str]) -> tuple[list[Row], float]:
    """Run one script in a process of its own; return its rows, none where it failed, and its seconds."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{command[0]}", *command[1:]], stdout=subprocess.PIPE, text=True
    )
    print(done.stdout, flush=True)
    if done.returncode:
        print(f"benchmarks.{command[0]} failed; its rows are left out", file=sys.stderr)
        return [], time.perf_counter() - begin
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    return [Row(**row) for row in rows], time.perf_counter() - begin


def page(rows: list[Row], commands: list[list[str]], seconds: float) -> str:
    """Return the results as Markdown: a table, what limits each, versions and commands."""
    lines = [
        f"# {machine()}",
        "",
        f"{os.cpu_count()} cores, measured in {seconds / 60:.0f} minutes. Medians of rounds in which all take turns;",
        "only ratios say something about another machine. `benchmarks/README.md` explains what limits each.",
        "",
        "| work | unit | ours | best peer | ratio | goal |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        best = f"{row.peers[row.best_peer]:.4g} ({row.best_peer})" if row.best_peer else ""
        ratio = f"{row.ratio:.2f}" if row.ratio else ""
        lines.append(f"| {row.work} | {row.unit} | {row.ours:.4g} | {best} | {ratio} | {row.goal} |")
    lines += ["", "All of them, and what limits ours:", ""]
    for row in rows:
        peers = ", ".join(f"{name} {value:.4g}" for name, value in row.peers.items())
        lines.append(
            "- " + "; ".join(filter(None, [f"{row.work}: ours {row.ours:.4g}, {peers}", row.limit, *row.notes]))
        )
    lines += [
        "",
        "Versions: " + ", ".join(f"{name} {found}" for name in PACKAGES if (found := installed(name))) + ".",
        "",
    ]
    lines += ["```bash", *(f"python -m benchmarks.{' '.join(command)}" for command in commands), "```"]
    return "\n".join(lines) + "\n"


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def machine() -> str:
    """Return the processor's name, with what decides speed: AVX2 or AVX-512."""
    import torch

    return f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    begin = time.perf_counter()
    rows = []
    commands = scripts()
    for command in commands:
        found, seconds = run(command)
        print(f"{' '.join(command)}: {seconds:.0f} s", file=sys.stderr, flush=True)
        rows += found
    RESULTS.mkdir(exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", f"{machine()} {os.cpu_count()} cores".lower()).strip("-")
    target = RESULTS / f"{name}.md"
    target.write_text(page(rows, commands, time.perf_counter() - begin), encoding="utf-8")
    print(f"written: {target}")


if __name__ == "__main__":
    main()
