"""The endpoint with 1, 8 and 32 clients beside `transformers serve` and llama.cpp's server, on a GPT-2 of 124M.

    python -m benchmarks.serving

Random weights, fp32, greedy, streams of 32 tokens from prompts of about 30. Each server runs in a process of its own,
and all take turns; each request has its own prompt, so none is known from before.
"""

import argparse
import asyncio
import os
import random
import socket
import statistics
import string
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
import torch

from benchmarks.side_by_side import Row, named, tell
from llmcore.base.process import usable_cores
from llmcore.base.seeds import torch_generator
from llmcore.generate.export import export_gguf
from llmcore.model.folder import save_language_model
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.tokenizer.bpe import BytePairTokenizer

NEW_TOKENS, ROUNDS = 32, 2
CLIENTS = {1: 3, 8: 1, 32: 1}  # number of clients -> requests of each, one after the other
CONTEXT = 256  # for llama.cpp, which shares its memory out to all clients
START_SECONDS = 120


class Turn(NamedTuple):
    """What clients measured together."""

    tokens_per_second: float
    first_token_seconds: list[float]


def tokenizer() -> BytePairTokenizer:
    """GPT-2's 50,257 tokens in number: bytes, pairs and triples of printable characters."""
    characters = [bytes([code]) for code in range(32, 127)]
    pairs = [(one, other) for one in characters for other in characters]
    triples = [(one + two, three) for one, two in pairs for three in characters]
    return BytePairTokenizer([*pairs, *triples][: 50257 - 257])


def write_model(folder: Path) -> None:
    config = GPT2Config(50257, 1024, 12, 12, 768, dropout=0.0, tied_head=True, qkv_bias=True)
    model = new_model(config)
    model.initialise(torch_generator(0, "initialise"))
    with torch.no_grad():
        model.lm_head.weight[-1] = 0  # end-of-text is never the likeliest, so that no text ends early
    save_language_model(folder, model, tokenizer=tokenizer(), origin={})


# ---- servers


def commands(folder: Path) -> dict[str, list[str]]:
    """Return how each server is started, but for the port that replaces PORT."""
    python, program = sys.executable, Path(sys.executable).with_name("transformers")
    found = {"ours": [python, "-m", "llmcore.cli", "serve", str(folder), "--port", "PORT"]}
    if title := named("transformers"):
        on_cpu = ["--device", "cpu", "--dtype", "float32", "--continuous-batching"]
        found[f"{title} serve"] = [str(program), "serve", str(folder), "--port", "PORT", *on_cpu]
    if title := named("xllamacpp"):
        file = folder.with_suffix(".gguf")
        export_gguf(folder, "f32", file)
        sizes = [str(max(CLIENTS)), str(CONTEXT), str(usable_cores())]
        found[f"llama.cpp server ({title})"] = [python, "-m", "benchmarks.llama_server", str(file), "PORT", *sizes]
    return found


@contextmanager
def started(command: list[str], log: Path) -> Iterator[str]:
    """Run a server on a free port and give its address once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    address = f"http://127.0.0.1:{port}"
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.replace("PORT", port) for part in command], stdout=output, stderr=output, env=environment
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not healthy(address):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{' '.join(command)}: does not start\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield address
    finally:
        process.kill()
        process.wait()


def healthy(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/health", timeout=1).is_success
    except httpx2.HTTPError:
        return False


# ---- clients


async def ask(client: httpx2.AsyncClient, model: str, prompt: str) -> float:
    """Read a stream to its end; return the seconds until its first text."""
    body = {"model": model, "prompt": prompt, "max_tokens": NEW_TOKENS, "temperature": 0, "stream": True}
    begin, first = time.perf_counter(), None
    async with client.stream("POST", "/v1/completions", json=body) as stream:
        stream.raise_for_status()
        async for line in stream.aiter_lines():
            if first is None and '"text"' in line and '"text":""' not in line.replace(": ", ":"):
                first = time.perf_counter() - begin
    assert first is not None
    return first


async def turn(address: str, model: str, n_clients: int, n_requests: int, draw: random.Random) -> Turn:
    words = ["".join(draw.choices(string.ascii_lowercase, k=5)) for _ in range(12 * n_clients * n_requests)]
    prompts = [" ".join(words[begin : begin + 12]) for begin in range(0, len(words), 12)]

    async def one(own: list[str]) -> list[float]:
        return [await ask(client, model, prompt) for prompt in own]

    async with httpx2.AsyncClient(base_url=address, timeout=300) as client:
        begin = time.perf_counter()
        found = await asyncio.gather(*(one(prompts[number::n_clients]) for number in range(n_clients)))
        seconds = time.perf_counter() - begin
    return Turn(len(prompts) * NEW_TOKENS / seconds, [first for of_one in found for first in of_one])


def measure(servers: Mapping[str, str], model: Mapping[str, str]) -> dict[int, dict[str, list[Turn]]]:
    """Return the turns of each server for each number of clients, after a request that warms it up."""
    draw = random.Random(0)
    for name, address in servers.items():
        asyncio.run(turn(address, model[name], 1, 1, draw))
    found: dict[int, dict[str, list[Turn]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(ROUNDS):
        for n_clients, n_requests in CLIENTS.items():
            for name, address in servers.items():
                found[n_clients][name].append(asyncio.run(turn(address, model[name], n_clients, n_requests, draw)))
    return found


def rows(found: Mapping[int, Mapping[str, list[Turn]]]) -> Iterator[Row]:
    for n_clients, of_server in found.items():
        title = f"serving GPT-2 124M, fp32, {n_clients} client{'s' if n_clients > 1 else ''}"
        rates = {name: statistics.median(each.tokens_per_second for each in turns) for name, turns in of_server.items()}
        yield Row(title, "tokens/s", rates.pop("ours"), rates)
        waits = {
            name: 1000 * statistics.median(first for each in turns for first in each.first_token_seconds)
            for name, turns in of_server.items()
        }
        yield Row(f"{title}, time to first token, median", "ms", waits.pop("ours"), waits, more_is_better=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        folder = Path(scratch) / "gpt2"
        write_model(folder)
        servers, model = {}, {}
        for number, (name, command) in enumerate(commands(folder).items()):
            servers[name] = running.enter_context(started(command, Path(scratch) / f"{number}.log"))
            model[name] = str(folder) if name.startswith("transformers") else folder.name
        tell(list(rows(measure(servers, model))))


if __name__ == "__main__":
    main()
