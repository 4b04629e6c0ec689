"""Decoding with a GPT-2 of 124M beside transformers, CTranslate2 and llama.cpp: one prompt and eight, by precision.

    python -m benchmarks.decoding [fp32 | bf16 | int8 ...]

Random weights, the same for all, greedy. Tokens per second: 64 new tokens, the prompts' time included; none ends a
text. Time to first token: a prompt of 128 tokens. A token of one text reads every weight once, so the bound is the
time to read them. Of the rounds, in which all take turns, each in a process of its own, the fastest counts: what other
programs take from the machine is not measured.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks import decoding_peers as peers
from benchmarks.apart import SETTLE_SECONDS, Apart
from benchmarks.decoding_peers import Generate
from benchmarks.side_by_side import Row, named, read_gigabytes_per_second, take_turns, tell
from llmcore.base.matmul import native_bf16
from llmcore.base.seeds import torch_generator
from llmcore.config.generation import PRECISIONS, GenerationConfig
from llmcore.config.read import read_params
from llmcore.generate.decode import decode
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.packed import prepare_for_decoding
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel

NEW_TOKENS, ROUNDS, FIRST_TOKEN_ROUNDS = 64, 5, 15
ONE = [4]
EIGHT = [16, 24, 37, 48, 64, 80, 96, 128]
LONG = [128]
WEIGHT_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
CTRANSLATE2 = {"fp32": "float32", "int8": "int8"}
LLAMA_CPP = {"fp32": "f32", "bf16": "bf16", "int8": "q8_0"}
GOALS = {"one prompt": "1 x", "eight prompts": "1 x", "first token": "0.83 x"}


def our_model() -> LanguageModel:
    model = new_model(GPT2Config(50257, 1024, 12, 12, 768, dropout=0.0, tied_head=True, qkv_bias=True))
    model.initialise(torch_generator(0, "initialise"))
    return model.eval()


def ours(precision: str) -> Generate:
    model = our_model()
    prepare_for_decoding(model, precision)

    def generate(prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        greedy = GenerationConfig(new_tokens, temperature=0.0, top_k=0, top_p=1.0)
        return [found.ids for found in decode(model, prompts, greedy, stop_ids=())]

    return generate


def titles(precision: str) -> dict[str, str]:
    """Return ours and the peers that are installed and have this precision: their names with versions."""
    found = {
        "transformers": named("transformers") if precision != "int8" else "",
        "ctranslate2": named("ctranslate2") if precision in CTRANSLATE2 else "",
        "llama_cpp": named("llama-cpp-python", "llama_cpp"),
    }
    return {"ours": "ours"} | {name: title for name, title in found.items() if title}


def engine(name: str, precision: str, threads: int, folder: Path) -> Generate:
    """Return the engine of that name. Each is called in a process of its own."""
    torch.set_num_threads(threads)
    if name == "ours":
        return ours(precision)
    if name == "transformers":
        return peers.transformers(our_model(), torch.float32 if precision == "fp32" else torch.bfloat16)
    if name == "ctranslate2":
        return peers.ctranslate2(our_model(), CTRANSLATE2[precision], threads, folder)
    return peers.llama_cpp(our_model(), LLAMA_CPP[precision], threads, folder)


def prompts_of(lengths: list[int]) -> list[list[int]]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randint(0, 50000, (length,), generator=draw).tolist() for length in lengths]


def compare(precision: str, threads: int, folder: Path) -> list[Row]:
    """Return the rows of one precision: one prompt, eight, and the time to the first token."""
    rows = []
    found = {title: Apart(engine, name, precision, threads, folder) for name, title in titles(precision).items()}
    parameters = sum(p.numel() for name, p in our_model().named_parameters() if "wpe" not in name)
    gigabytes = parameters * WEIGHT_BYTES[precision] / 1e9
    for what, lengths in {"one prompt": ONE, "eight prompts": EIGHT}.items():
        prompts = prompts_of(lengths)
        work = {name: partial(generate, prompts, NEW_TOKENS) for name, generate in found.items()}
        seconds = take_turns(work, rounds=ROUNDS, pause_seconds=SETTLE_SECONDS, summary=min)
        rates = {name: len(prompts) * NEW_TOKENS / each for name, each in seconds.items()}
        read = read_gigabytes_per_second(torch.float32)
        share = rates["ours"] / (len(prompts) * read / gigabytes)
        limit = f"{share:.0%} of what reading {gigabytes:.2f} GB of weights per token at {read:.1f} GB/s allows"
        title = f"decoding, GPT-2 124M, {precision}, {what}"
        rows.append(Row(title, "tokens/s", rates.pop("ours"), rates, goal=GOALS[what], limit=limit))
    work = {name: partial(generate, prompts_of(LONG), 1) for name, generate in found.items()}
    seconds = take_turns(work, rounds=FIRST_TOKEN_ROUNDS, pause_seconds=SETTLE_SECONDS, summary=min)
    times = {name: 1e3 * each for name, each in seconds.items()}
    title = f"time to first token of {LONG[0]}, GPT-2 124M, {precision}"
    return [*rows, Row(title, "ms", times.pop("ours"), times, more_is_better=False, goal=GOALS["first token"])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    computed = [each for each in PRECISIONS if each != "bf16" or native_bf16("cpu")]
    parser.add_argument("precisions", nargs="*", default=computed, help="(default: all that this CPU computes)")
    precisions = parser.parse_args().precisions
    threads = read_params().compute.threads
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        tell([row for precision in precisions for row in compare(precision, threads, Path(folder))])


if __name__ == "__main__":
    main()
