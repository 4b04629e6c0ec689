"""Decoding with a GPT-2 of 124M beside transformers: one prompt, fp32 and int8, and eight of different lengths.

    python -m benchmarks.decoding

Random weights, greedy, 64 new tokens, none of which ends a text. A token of one text reads every weight once, so the
bound is the time to read them.
"""

import argparse
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.side_by_side import Row, named, read_gigabytes_per_second, take_turns, tell
from llmcore.base.matmul import native_bf16
from llmcore.base.seeds import torch_generator
from llmcore.config.generation import GenerationConfig
from llmcore.config.read import read_params
from llmcore.generate.decode import decode
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.packed import prepare_for_decoding
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel

NEW_TOKENS, ROUNDS = 64, 3
ONE = [4]
EIGHT = [16, 24, 37, 48, 64, 80, 96, 128]
GREEDY = GenerationConfig(NEW_TOKENS, temperature=0.0, top_k=0, top_p=1.0)


def our_model(dtype: torch.dtype) -> LanguageModel:
    config = GPT2Config(50257, 1024, 12, 12, 768, dropout=0.0, tied_head=True, qkv_bias=True)
    model = new_model(config)
    model.initialise(torch_generator(0, "initialise"))
    return model.eval().to(dtype)


def ours(model: LanguageModel, prompts: list[list[int]]) -> Callable[[], object]:
    return lambda: decode(model, prompts, GREEDY, stop_ids=())


def with_transformers(dtype: torch.dtype) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config()).eval().to(dtype)


def theirs(model: nn.Module, prompts: list[list[int]]) -> Callable[[], object]:
    width = max(map(len, prompts))
    ids = torch.tensor([[50256] * (width - len(prompt)) + prompt for prompt in prompts])  # padded on the left
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    exactly = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 50256}

    @torch.inference_mode()
    def generate() -> None:
        model.generate(input_ids=ids, attention_mask=mask, **exactly)  # type: ignore[operator]

    return generate


def prompts_of(lengths: list[int]) -> list[list[int]]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randint(0, 50000, (length,), generator=draw).tolist() for length in lengths]


def compare(lengths: list[int], dtype: torch.dtype, goal: str) -> list[Row]:
    """Return the row of ours in `dtype`; of one prompt in fp32, that of int8 too, measured in the same rounds."""
    prompts = prompts_of(lengths)
    model = our_model(dtype)
    work = {"ours": ours(model, prompts)}
    if lengths == ONE and dtype == torch.float32:
        rounded = our_model(dtype)
        prepare_for_decoding(rounded, "int8")
        work["ours, int8"] = ours(rounded, prompts)
    if title := named("transformers"):
        work[title] = theirs(with_transformers(dtype), prompts)
    seconds = take_turns(work, rounds=ROUNDS)
    rates = {name: len(prompts) * NEW_TOKENS / each for name, each in seconds.items()}
    peers = {name: each for name, each in rates.items() if not name.startswith("ours")}
    what = "1 prompt" if len(prompts) == 1 else f"{len(prompts)} prompts of different lengths"
    precision = str(dtype).removeprefix("torch.")
    title = f"decoding, GPT-2 124M, {what}, {precision}"
    rows = [row(title, rates["ours"], peers, goal, len(prompts), model)]
    if "ours, int8" in rates:
        title = f"decoding, GPT-2 124M, {what}, int8 beside {precision}"
        rows.append(row(title, rates["ours, int8"], peers, "5 x", len(prompts), model, 1))
    return rows


def row(
    title: str,
    rate: float,
    peers: dict[str, float],
    goal: str,
    prompts: int,
    model: LanguageModel,
    weight_bytes: int = 0,
) -> Row:
    """Return a row with its share of the bound: reading all weights, but the positions, once for each token."""
    weights = [p for name, p in model.named_parameters() if "wpe" not in name]
    gigabytes = sum(p.numel() * (weight_bytes or p.element_size()) for p in weights) / 1e9
    read = read_gigabytes_per_second(weights[0].dtype)
    share = rate / (prompts * read / gigabytes)
    limit = f"{share:.0%} of what reading {gigabytes:.2f} GB of weights per token at {read:.1f} GB/s allows"
    return Row(title, "tokens/s", rate, peers, goal=goal, limit=f"{limit}, the prompts' time included")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(read_params().compute.threads)
    dtypes = [torch.float32, *([torch.bfloat16] if native_bf16("cpu") else [])]
    rows = [row for dtype in dtypes for row in compare(ONE, dtype, "1.5 x")]
    tell([*rows, *compare(EIGHT, torch.float32, "2 x")])


if __name__ == "__main__":
    main()
