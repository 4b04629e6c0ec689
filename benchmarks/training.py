"""A training step beside transformers, litgpt and the book's code: the quickstart's model, and GPT-2 124M.

    python -m benchmarks.training quickstart
    python -m benchmarks.training gpt2 --precision bf16

All models have random weights, the same batch, fused AdamW and clipping; the peers are called as their own
trainers call them. Litgpt and the book do not tie the head, so they have more parameters.
"""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.side_by_side import Row, named, product_gflops, take_turns, tell
from llmcore.base.seeds import torch_generator
from llmcore.config.read import read_params
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel
from llmcore.tasks.next_token import TokenBatch, next_token_loss
from llmcore.train.compute import Compute
from llmcore.train.step import train_step

SHAPES = {  # layers, heads, width, vocabulary, rows, tokens per row, rounds
    "quickstart": (3, 4, 128, 1152, 16, 104, 30),
    "gpt2": (12, 12, 768, 50257, 4, 256, 3),
}
GOALS = {("quickstart", "fp32"): 1.3, ("gpt2", "fp32"): 1.2, ("gpt2", "bf16"): 1.4}
SEED = 0


class OneBatch:
    """A task whose every step is the same batch, in micro-batches; its own loader."""

    steps_per_epoch = 1

    def __init__(self, batches: list[TokenBatch]):
        self.batches = batches
        self.n_micro_batches = len(batches)

    @property
    def loader(self) -> "OneBatch":
        return self

    def micro_batches(self, step: int) -> list[TokenBatch]:
        return self.batches

    def loss_sum(self, model: LanguageModel, batch: TokenBatch) -> Tensor:
        return next_token_loss(model, batch)

    def evaluate(self, model: LanguageModel) -> dict[str, float]:
        return {"loss": 0.0}


def ours(
    shape: tuple[int, ...], inputs: Tensor, targets: Tensor, compute: Compute, n_micro_batches: int = 1
) -> Callable[[], object]:
    layers, heads, width, vocabulary, _, time, _ = shape
    config = GPT2Config(vocabulary, time, layers, heads, width, dropout=0.0, tied_head=True, qkv_bias=True)
    model = new_model(config)
    model.initialise(torch_generator(SEED, "initialise"))
    pairs = zip(inputs.chunk(n_micro_batches), targets.chunk(n_micro_batches), strict=True)
    task = OneBatch([TokenBatch(ids, next_ids, torch.arange(ids.numel()), ids.numel()) for ids, next_ids in pairs])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    return lambda: train_step(model, task, optimizer, 0, lr=1e-4, grad_clip=1.0, seed=SEED, compute=compute)


def a_peer(model: nn.Module, loss_of: Callable[[], Tensor], compute: Compute) -> Callable[[], object]:
    """Return the step that all peers take: loss, gradients, clipping, fused AdamW."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> Tensor:
        with compute.autocast():
            loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()  # not read: on a GPU that would wait

    return step


def with_transformers(
    shape: tuple[int, ...], inputs: Tensor, targets: Tensor, compute: Compute, compiled: bool = False
) -> Callable[[], object]:
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, heads, width, vocabulary, _, time, _ = shape
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=time,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        use_cache=False,
        **no_dropout,
    )
    model = GPT2LMHeadModel(config)
    run = torch.compile(model) if compiled else model
    # with `labels` alone it would shift them itself and need one token more
    return a_peer(model, lambda: run(input_ids=inputs, labels=inputs, shift_labels=targets).loss, compute)


def with_litgpt(shape: tuple[int, ...], inputs: Tensor, targets: Tensor, compute: Compute) -> Callable[[], object]:
    from litgpt import config
    from litgpt import model as litgpt

    layers, heads, width, vocabulary, _, time, _ = shape
    sizes = {"block_size": time, "n_layer": layers, "n_head": heads, "n_embd": width}
    vocabularies = {"vocab_size": vocabulary, "padded_vocab_size": vocabulary}
    model = litgpt.GPT(config.Config(**sizes, **vocabularies, parallel_residual=False, bias=True))
    return a_peer(model, lambda: cross_entropy(model(inputs), targets), compute)


def with_the_book(shape: tuple[int, ...], inputs: Tensor, targets: Tensor, compute: Compute) -> Callable[[], object]:
    from llms_from_scratch.ch04 import GPTModel

    layers, heads, width, vocabulary, _, time, _ = shape
    config = {"vocab_size": vocabulary, "context_length": time, "emb_dim": width, "n_heads": heads, "n_layers": layers}
    model = GPTModel(config | {"drop_rate": 0.0, "qkv_bias": True})
    return a_peer(model, lambda: cross_entropy(model(inputs), targets), compute)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


PEERS = {"transformers": with_transformers, "litgpt": with_litgpt, "llms-from-scratch": with_the_book}


def batch(name: str) -> tuple[Tensor, Tensor]:
    """Return inputs and targets (B, T) of a model's step."""
    _, _, _, vocabulary, rows, time, _ = SHAPES[name]
    torch.manual_seed(SEED)
    ids = torch.randint(0, vocabulary, (rows, time + 1))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def compare(name: str, precision: str) -> Row:
    shape = SHAPES[name]
    layers, _, width, vocabulary, rows, time, rounds = shape
    inputs, targets = batch(name)
    compute = Compute(torch.device("cpu"), precision)
    work = {"ours": ours(shape, inputs, targets, compute)}
    work |= {
        title: make(shape, inputs, targets, compute) for package, make in PEERS.items() if (title := named(package))
    }
    seconds = take_turns(work, rounds=rounds)
    rates = {title: inputs.numel() / each for title, each in seconds.items()}
    multiplied = 12 * layers * width**2 + width * vocabulary  # weights of matmuls
    gflops = 6 * multiplied * rates["ours"] / 1e9 + 12 * layers * width * time * rates["ours"] / 1e9
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    ceiling = product_gflops(rows * time, width, 4 * width, dtype)
    title = {"gpt2": "GPT-2 124M", "quickstart": "quickstart model"}[name]
    product = f"{rows * time} x {width} x {4 * width}"
    return Row(
        f"training step, {title}, {rows} x {time} tokens, {precision}",
        "tokens/s",
        rates.pop("ours"),
        rates,
        goal=f"{GOALS[name, precision]} x" if (name, precision) in GOALS else "",
        limit=f"{gflops:.0f} GFLOP/s, {gflops / ceiling:.0%} of the {ceiling:.0f} of a matmul ({product})",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=SHAPES)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = parser.parse_args()
    torch.set_num_threads(read_params().compute.threads)
    tell([compare(arguments.model, arguments.precision)])


if __name__ == "__main__":
    main()
