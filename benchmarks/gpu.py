"""A pretraining step of GPT-2 on one GPU, beside transformers: tokens/s, share of the peak, memory beside the plan's.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --models 124M quickstart --precision fp32
    python -m benchmarks.gpu --models 124M --windows 32

Random weights and tokens, one micro-batch of windows of 1,024 tokens, AdamW, clipping; both have torch's attention and
the determinism of params.yaml. Ours is the loop's own step, read when the next one is on its way, so that nothing waits
but the end.
"""

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from benchmarks.many_gpus import SIZES, VOCAB_SIZE
from benchmarks.training import OneBatch, with_transformers
from llmcore.config.params import ComputeParams
from llmcore.config.read import read_params
from llmcore.model.costs import ActivationCounter, gradient_bytes, optimizer_bytes, training_flops, weight_bytes
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel
from llmcore.run.gpus import GPUS
from llmcore.tasks.next_token import TokenBatch
from llmcore.train.blocks import trained_model
from llmcore.train.compute import Compute, setup_compute
from llmcore.train.history import History
from llmcore.train.loop import PendingSteps
from llmcore.train.step import start_step

SHAPES = {name: (VOCAB_SIZE, 1024, *size) for name, size in SIZES.items()}  # vocabulary, window, layers, heads, width
SHAPES["quickstart"] = (1152, 104, 3, 4, 128)
H100 = GPUS["h100"]
PEAK_FLOPS = {"bf16": 1e12 * H100.bf16_tflops, "fp32": 1e12 * H100.fp32_tflops}
STEPS, WARM_UP_STEPS = 20, 5


@dataclass(frozen=True)
class Found:
    seconds: float  # of a step
    peak_bytes: int
    planned_bytes: int = 0


def measured(step: Callable[[int], object]) -> Found:
    """Return the seconds of a step of many, and the most memory that was taken."""
    for number in range(WARM_UP_STEPS):
        step(number)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    for number in range(STEPS):
        step(WARM_UP_STEPS + number)
    torch.cuda.synchronize()
    return Found((time.perf_counter() - begin) / STEPS, torch.cuda.max_memory_allocated())


def gpt2(shape: tuple[int, ...], device: str) -> LanguageModel:
    vocabulary, length, layers, heads, width = shape
    config = GPT2Config(vocabulary, length, layers, heads, width, dropout=0.0, qkv_bias=True, tied_head=True)
    with torch.device(device):
        model = new_model(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return model


def ours(shape: tuple[int, ...], batch: TokenBatch, compute: Compute) -> Found:
    model, task, pending = gpt2(shape, "cuda"), OneBatch([batch]), PendingSteps(History())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    with ActivationCounter() as kept, compute.autocast():
        task.loss_sum(model, batch)
    state = (
        weight_bytes(model) + gradient_bytes(model, n_micro_batches=1, processes=1) + optimizer_bytes(model, "adamw")
    )

    def step(number: int) -> None:
        started = start_step(trained, task, optimizer, number, lr=1e-4, grad_clip=1.0, seed=0, compute=compute)
        pending.add(started, reads_late=compute.reads_late)

    with trained_model(model, compute) as trained:
        return replace(measured(step), planned_bytes=state + kept.bytes)


def transformers(shape: tuple[int, ...], batch: TokenBatch, compute: Compute, compiled: bool = False) -> Found:
    vocabulary, length, *sizes = shape
    its_shape = (*sizes, vocabulary, len(batch.inputs), length, 0)
    with compute.device:
        step = with_transformers(its_shape, batch.inputs, batch.targets, compute, compiled)
    return measured(lambda number: step())


ENGINES: dict[str, Callable[..., Found]] = {
    "ours": ours,
    "ours, compiled": lambda shape, batch, compute: ours(shape, batch, replace(compute, compile=True)),
    "transformers": transformers,
    "transformers, compiled": partial(transformers, compiled=True),
}


def rows(name: str, precision: str, windows: int, engines: list[str]) -> Iterator[str]:
    """Yield a line of the table for each engine, one after the other: each has the GPU's memory to itself."""
    shape, compute = SHAPES[name], setup_compute(settings(precision))
    vocabulary, length, *_ = shape
    ids = np.random.default_rng(0).integers(0, vocabulary, (windows, length + 1))
    n_tokens = windows * length
    batch = TokenBatch.of(ids[:, :-1].copy(), ids[:, 1:].copy(), n_tokens, compute.device)
    flops = sum(training_flops(gpt2(shape, "meta"), rows=windows, length=length, n_targets=n_tokens))
    for engine in engines:
        found = ENGINES[engine](shape, batch, compute)
        torch.compiler.reset()  # what is compiled keeps its model
        gc.collect()
        torch.cuda.empty_cache()
        share = flops / found.seconds / PEAK_FLOPS[precision]
        planned = f"{found.planned_bytes / 1e9:.1f} GB" if found.planned_bytes else ""
        cells = [name, engine, f"{1000 * found.seconds:.1f} ms", f"{n_tokens / found.seconds:,.0f}", f"{share:.0%}"]
        yield f"| {' | '.join([*cells, f'{found.peak_bytes / 1e9:.1f} GB', planned])} |"


def settings(precision: str) -> ComputeParams:
    section = read_params().compute.model_dump()
    return ComputeParams.model_validate(section | {"device": "cuda", "precision": precision, "numerics": "native"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["quickstart", "124M", "355M", "774M", "1.5B"])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--precision", choices=PEAK_FLOPS, default="bf16")
    parser.add_argument("--windows", type=int, default=8, help="of a micro-batch")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this machine has no GPU that torch sees")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {arguments.precision}\n")
    print("| model | | a step | tokens/s | of an H100's peak | memory | planned |")
    print("|---" * 7 + "|")
    for name in arguments.models:
        for line in rows(name, arguments.precision, arguments.windows, arguments.engines):
            print(line, flush=True)


if __name__ == "__main__":
    main()
