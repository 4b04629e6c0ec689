"""What rounding to int8 costs: the validation loss of the pretrained model, and the text of random GPT-2s of 124M.

    python -m benchmarks.int8_cost          # needs models/pretrain and its data, as `dvc repro` leaves them
    python -m benchmarks.int8_cost --texts  # how many of 64 greedy tokens are those of fp32, and how fast they come

Random weights are the hardest case for the text: the best two logits are often closer than any rounding.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

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
PROMPT_LENGTHS = (4, 8, 16, 32, 4, 8)
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
    shape = {"vocab_size": 50257, "context_length": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768}
    model = new_model(GPT2Config(**shape, dropout=0.0, qkv_bias=True, tied_head=True))
    model.initialise(torch_generator(seed, "initialise"))
    return model.eval()


def greedy_texts(model: LanguageModel, prompts: list[list[int]]) -> tuple[list[list[int]], float]:
    """Return the continuation of each prompt, one at a time, and the tokens per second of the fastest."""
    config = GenerationConfig(NEW_TOKENS, temperature=0.0, top_k=0, top_p=1.0, seed=0)
    texts, seconds = [], []
    for prompt in prompts:
        begin = time.perf_counter()
        texts += [found.ids for found in decode(model, [prompt], config, stop_ids=())]
        seconds.append(time.perf_counter() - begin)
    return texts, NEW_TOKENS / min(seconds)


def kept_tokens(seed: int) -> tuple[list[int], float, float]:
    """Return the number of int8's first tokens that are those of fp32, by prompt, and the speed of fp32 and int8."""
    draw = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(0, 50000, (length,), generator=draw).tolist() for length in PROMPT_LENGTHS]
    model = random_gpt2(seed)
    exact, before = greedy_texts(model, prompts)
    prepare_for_decoding(model, "int8")
    rounded, after = greedy_texts(model, prompts)
    kept = [
        next((place for place, (a, b) in enumerate(zip(*pair, strict=True)) if a != b), NEW_TOKENS)
        for pair in zip(exact, rounded, strict=True)
    ]
    return kept, before, after


def compare_texts() -> None:
    found = [kept_tokens(seed) for seed in SEEDS]
    kept = [count for counts, _, _ in found for count in counts]
    whole = sum(count == NEW_TOKENS for count in kept)
    before, after = (max(row[column] for row in found) for column in (1, 2))
    print(
        f"int8 keeps {np.mean(kept):.1f} of {NEW_TOKENS} tokens on average, all of them in {whole} of {len(kept)} texts"
    )
    print(f"fp32 {before:.1f} tokens/s, int8 {after:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", action="store_true", help="compare the texts of random models")
    arguments = parser.parse_args()
    torch.set_num_threads(read_params().compute.threads)
    if arguments.texts:
        compare_texts()
        return
    windows = Windows(open_tokens(Path("data/tokens")), read_samples(Path("data/samples")).val)
    model, _ = open_language_model("models/pretrain")
    before = loss(model.eval(), windows)
    prepare_for_decoding(model, "int8")
    after = loss(model, windows)
    print(f"fp32 {before:.4f} nats per token, int8 {after:.4f}: perplexity {np.exp(after - before) - 1:+.2%}")


if __name__ == "__main__":
    main()
