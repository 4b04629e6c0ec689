"""A calculation, not a measurement: a pretraining step of GPT-2 on 1, 8 and 64 H100s, and what binds it.

    python -m benchmarks.many_gpus

From the project's own counts: operations and bytes (`llmcore.model.costs`), and what recursive halving sends at each
distance (`llmcore.base.tree_sum`). The share of the arithmetic and the launches of kernels are those that
`benchmarks.gpu` measured on one H100 (`llmcore.run.gpus`). All else is published or assumed, as said below the table.
"""

import argparse
from dataclasses import dataclass

import torch

from llmcore.model.costs import gradient_bytes, optimizer_bytes, training_flops, weight_bytes
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel
from llmcore.run.gpus import GPUS, LAUNCH_SECONDS_PER_BLOCK, UTILISATION

SIZES = {"124M": (12, 12, 768), "355M": (24, 16, 1024), "774M": (36, 20, 1280), "1.5B": (48, 25, 1600)}
VOCAB_SIZE, WINDOW_TOKENS = 50257, 1024
BATCH_WINDOWS, MICRO_BATCH_WINDOWS = 512, 8  # half a million tokens a step, as GPT-3's smallest
GPU = GPUS["h100"]
MEMORY_BYTES = 3.35e12  # per second: NVIDIA H100 data sheet
GPUS_PER_MACHINE = 8
NVLINK_BYTES = 450e9  # per second and direction: NVIDIA H100 data sheet, 900 GB/s for both
NETWORKS = {"400 Gb/s per GPU": 50e9, "25 Gb/s per machine": 25e9 / 8 / GPUS_PER_MACHINE}
LINK_SHARE = 0.7  # of the rate of a link, or of memory, that is reached: assumed
KEPT_BYTES = 34  # of activations in bf16, per token, layer and feature (Korthikanti et al. 2022, arXiv:2205.05198)


@dataclass(frozen=True)
class Step:
    """Seconds of a step by what takes them, and the bytes of one GPU, replicated and sharded."""

    arithmetic: float
    launches: float  # beside the arithmetic: the longer of both counts
    optimizer: float
    exchange: float
    exposed: float  # of the exchange: what no backward pass hides
    replicated_bytes: float
    sharded_bytes: float

    @property
    def seconds(self) -> float:
        return max(self.arithmetic, self.launches) + self.optimizer + self.exposed

    @property
    def binds(self) -> str:
        parts = {"arithmetic": self.arithmetic, "launches": self.launches, "network": self.exposed}
        return max(parts, key=lambda name: parts[name])


def gpt2(name: str) -> LanguageModel:
    """Return the model without memory for its weights."""
    n_layer, n_head, n_embd = SIZES[name]
    config = GPT2Config(VOCAB_SIZE, WINDOW_TOKENS, n_layer, n_head, n_embd, dropout=0.0, qkv_bias=True, tied_head=True)
    with torch.device("meta"):
        return new_model(config)


def exchange_seconds(n_bytes: float, gpus: int, network: float) -> float:
    """Return what recursive halving takes: of each distance its share there and back, near ones through NVLink."""
    seconds, distance = 0.0, 1
    while distance < gpus:
        rate = NVLINK_BYTES if distance < GPUS_PER_MACHINE else network
        seconds += 2 * n_bytes / (2 * distance) / (rate * LINK_SHARE)
        distance *= 2
    return seconds


def step(name: str, gpus: int, network: float) -> Step:
    model, (n_layer, _, n_embd) = gpt2(name), SIZES[name]
    windows = BATCH_WINDOWS // gpus
    n_micro_batches = max(1, windows // MICRO_BATCH_WINDOWS)
    flops = sum(training_flops(model, rows=1, length=WINDOW_TOKENS, n_targets=WINDOW_TOKENS))
    arithmetic = windows * flops / (GPU.bf16_tflops * 1e12 * UTILISATION["bf16"])
    launches = n_micro_batches * n_layer * LAUNCH_SECONDS_PER_BLOCK
    weights = weight_bytes(model)
    state = weights + optimizer_bytes(model, "adamw")
    gradients = gradient_bytes(model, n_micro_batches=n_micro_batches, processes=gpus)
    activations = KEPT_BYTES * min(MICRO_BATCH_WINDOWS, windows) * WINDOW_TOKENS * n_layer * n_embd
    # the last micro-batch's backward pass hides all but the embedding, whose gradient is the last
    hidden = max(arithmetic, launches) / n_micro_batches * 2 / 3
    exchange = exchange_seconds(weights, gpus, network)
    last = exchange_seconds(4 * VOCAB_SIZE * n_embd, gpus, network)
    return Step(
        arithmetic=arithmetic,
        launches=launches,
        optimizer=(state + 2 * weights + state) / (MEMORY_BYTES * LINK_SHARE),  # read, with two reads of the gradient
        exchange=exchange,
        exposed=max(exchange - hidden, last),
        replicated_bytes=state + gradients + activations,
        sharded_bytes=(state + weights) / gpus + activations + 2 * weights / n_layer,  # two blocks at a time
    )


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    heads = "arithmetic | launches | optimizer | exchange, exposed | a step | tokens/s | of linear | binds"
    print(f"| model | GPUs, network | {heads} | memory | sharded |")
    print("|---" * 12 + "|")
    for name in SIZES:
        one = step(name, 1, 1.0).seconds
        for gpus, network in [(1, ""), (8, ""), *((64, network) for network in NETWORKS)]:
            found = step(name, gpus, NETWORKS.get(network, 1.0))
            parts = [f"{1000 * seconds:.0f}" for seconds in (found.arithmetic, found.launches, found.optimizer)]
            exchange = f"{1000 * found.exchange:.0f}, {1000 * found.exposed:.0f}"
            rate = f"{BATCH_WINDOWS * WINDOW_TOKENS / found.seconds:,.0f}"
            speed = [f"{1000 * found.seconds:.0f} ms", rate, f"{one / gpus / found.seconds:.0%}", found.binds]
            memory = [f"{n_bytes / 1e9:.0f} GB" for n_bytes in (found.replicated_bytes, found.sharded_bytes)]
            print(f"| {' | '.join([name, f'{gpus} {network}'.strip(), *parts, exchange, *speed, *memory])} |")
    print(f"\n{GPU.name}, {GPU.bf16_tflops:g} TFLOPS in bf16 ({GPU.source}), {UTILISATION['bf16']:.0%} of them reached")
    print(f"launches of a block and micro-batch: {1000 * LAUNCH_SECONDS_PER_BLOCK:g} ms")
    print(f"NVLink {NVLINK_BYTES / 1e9:g} GB/s in a machine of {GPUS_PER_MACHINE}; of links {LINK_SHARE:.0%} (assumed)")


if __name__ == "__main__":
    main()
