"""Decoding with a GPT-2 of 124M beside transformers: one prompt, and eight of different lengths.

    python -m benchmarks.decoding

Random weights, greedy, 32 new tokens, none of which ends a text. A token of one text reads every weight once, so the
bound is the time to read them.
"""

import argparse
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.side_by_side import Row, named, read_gigabytes_per_second, take_turns, tell
from llmcore.compute import native_bf16
from llmcore.generate.decode import decode
from llmcore.generate.sampling import Sampling
from llmcore.model.gpt import GPT, GPTConfig
from llmcore.params import read_params
from llmcore.seeds import torch_generator

NEW_TOKENS, ROUNDS = 32, 5
ONE = [64]
EIGHT = [16, 24, 37, 48, 64, 80, 96, 128]
GREEDY = Sampling(temperature=0.0, top_k=0, top_p=1.0)


def our_model(dtype: torch.dtype) -> GPT:
    config = GPTConfig(50257, 1024, 12, 12, 768, dropout=0.0, qkv_bias=True, tied_head=True)
    model = GPT(config)
    model.initialise(torch_generator(0, "initialise"))
    return model.eval().to(dtype)


def ours(model: GPT, prompts: list[list[int]]) -> Callable[[], object]:
    return lambda: decode(model, prompts, max_new_tokens=NEW_TOKENS, sampling=GREEDY, seed=0, stop_id=None)


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


def compare(lengths: list[int], dtype: torch.dtype, goal: str) -> Row:
    draw = torch.Generator().manual_seed(0)
    prompts = [torch.randint(0, 50000, (length,), generator=draw).tolist() for length in lengths]
    model = our_model(dtype)
    work = {"ours": ours(model, prompts)}
    if title := named("transformers"):
        work[title] = theirs(with_transformers(dtype), prompts)
    seconds = take_turns(work, rounds=ROUNDS)
    rates = {name: len(prompts) * NEW_TOKENS / each for name, each in seconds.items()}
    read = sum(p.numel() * p.element_size() for n, p in model.named_parameters() if "wpe" not in n) / 1e9
    rate = read_gigabytes_per_second(dtype)
    bound = len(prompts) * rate / read
    what = "1 prompt" if len(prompts) == 1 else f"{len(prompts)} prompts of different lengths"
    return Row(
        f"decoding, GPT-2 124M, {what}, {str(dtype).removeprefix('torch.')}",
        "tokens/s",
        rates["ours"],
        {name: each for name, each in rates.items() if name != "ours"},
        goal=goal,
        limit=f"{rates['ours'] / bound:.0%} of what reading {read:.2f} GB of weights a step at {rate:.1f} GB/s allows, "
        f"the prompts' time included",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(read_params().compute.threads)
    dtypes = [torch.float32, *([torch.bfloat16] if native_bf16("cpu") else [])]
    rows = [compare(ONE, dtype, "1.5 x") for dtype in dtypes]
    tell([*rows, compare(EIGHT, torch.float32, "2 x")])


if __name__ == "__main__":
    main()
