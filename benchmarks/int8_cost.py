"""What fewer bits cost: int8's validation loss of the pretrained model, and the texts of random GPT-2s of 124M.

    python -m benchmarks.int8_cost          # needs models/pretrain and its data, as `dvc repro` leaves them
    python -m benchmarks.int8_cost --texts  # how many greedy tokens come before the first that fp32 has not

Random weights are the hardest case for the text: the best two logits are often closer than any rounding. llama.cpp,
where it is installed, is compared with its own fp32.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.decoding_peers import llama_cpp
from benchmarks.side_by_side import named
from llmcore.base.matmul import native_bf16
from llmcore.base.seeds import torch_generator
from llmcore.config.generation import GenerationConfig
from llmcore.config.read import read_params
from llmcore.data.samples import read_samples
from llmcore.data.tokens import open_tokens
from llmcore.data.windows import IGNORE_INDEX, Windows
from llmcore.generate.decode import decode
from llmcore.generate.open import open_language_model
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.packed import prepare_for_decoding
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel

ROWS_PER_BATCH = 32
SEEDS = range(5)
LLAMA_CPP = ("f32", "bf16", "q8_0")
PROMPT_LENGTHS = (4, 8, 16, 32, 4, 8, 16, 32)
NEW_TOKENS = 64


@torch.no_grad()
def loss(model: LanguageModel, windows: Windows) -> float:
    """Return the mean loss in nats per token."""
    total, n_targets = 0.0, 0
    for begin in range(0, len(windows), ROWS_PER_BATCH):
        rows = np.arange(begin, min(begin + ROWS_PER_BATCH, len(windows)))
        inputs, targets = map(torch.from_numpy, windows.rows(rows))
        logits = model(inputs).flatten(0, 1)
        total += F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum").item()
        n_targets += int((targets != IGNORE_INDEX).sum())
    return total / n_targets


def random_gpt2(seed: int) -> LanguageModel:
    """Return a model whose head is not the embedding; with that, random weights repeat the last token for ever."""
    shape = {"vocab_size": 50257, "context_length": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768}
    model = new_model(GPT2Config(**shape, dropout=0.0, qkv_bias=True, tied_head=False))
    model.initialise(torch_generator(seed, "initialise"))
    return model.eval()


def greedy(model: LanguageModel, prompts: list[list[int]]) -> list[list[int]]:
    config = GenerationConfig(NEW_TOKENS, temperature=0.0, top_k=0, top_p=1.0, seed=0)
    return [found.ids for found in decode(model, prompts, config, stop_ids=())]


def kept_tokens(texts: list[list[int]], exact: list[list[int]]) -> list[int]:
    """Return how many of each text's first tokens are those of the exact one."""
    pairs = [list(zip(*pair, strict=True)) for pair in zip(texts, exact, strict=True)]
    return [next((place for place, (a, b) in enumerate(pair) if a != b), NEW_TOKENS) for pair in pairs]


def texts_of(seed: int, threads: int, folder: Path) -> dict[str, list[int]]:
    """Return the tokens kept by each engine and precision, by prompt."""
    draw = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(0, 50000, (length,), generator=draw).tolist() for length in PROMPT_LENGTHS]
    exact, kept = greedy(random_gpt2(seed), prompts), {}
    for precision in ["int8", *(["bf16"] if native_bf16("cpu") else [])]:
        model = random_gpt2(seed)
        prepare_for_decoding(model, precision)
        kept[f"ours, {precision}"] = kept_tokens(greedy(model, prompts), exact)
    if title := named("llama-cpp-python", "llama_cpp"):
        model = random_gpt2(seed)
        exact, *others = (llama_cpp(model, kind, threads, folder)(prompts, NEW_TOKENS) for kind in LLAMA_CPP)
        kept |= {f"{title}, {kind}": kept_tokens(of, exact) for kind, of in zip(LLAMA_CPP[1:], others, strict=True)}
    return kept


def compare_texts(threads: int) -> None:
    kept: dict[str, list[int]] = {}
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            for name, counts in texts_of(seed, threads, Path(folder)).items():
                kept.setdefault(name, []).extend(counts)
    for name, counts in kept.items():
        whole = sum(count == NEW_TOKENS for count in counts)
        print(f"{name}: {np.mean(counts):.1f} of {NEW_TOKENS} tokens on average, all in {whole} of {len(counts)} texts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", action="store_true", help="compare the texts of random models")
    arguments = parser.parse_args()
    threads = read_params().compute.threads
    torch.set_num_threads(threads)
    if arguments.texts:
        compare_texts(threads)
        return
    windows = Windows(open_tokens(Path("data/tokens")), read_samples(Path("data/samples")).val)
    model, _ = open_language_model("models/pretrain")
    before = loss(model.eval(), windows)
    prepare_for_decoding(model, "int8")
    after = loss(model, windows)
    print(f"fp32 {before:.4f} nats per token, int8 {after:.4f}: perplexity {np.exp(after - before) - 1:+.2%}")


if __name__ == "__main__":
    main()
