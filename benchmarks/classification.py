"""LoRA on real messages with a GPT-2 of 124M, beside peft and the book's way, in messages per second.

    LLMCORE_MIRROR=/path/to/folder python -m benchmarks.classification
    LLMCORE_MIRROR=/path/to/folder python -m benchmarks.classification --precision bf16

The balanced SMS messages, rank 16 on all linear layers, 8 messages per step. Ours puts messages of similar length
together; peft pads to the longest of a batch in random order, as its examples do; the book pads all to the longest
of the collection, and puts an update on the head too. A round is five steps of an epoch of
130, of those with the shortest messages to those with the longest.
"""

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.side_by_side import Row, named, take_turns, tell
from llmcore.base.seeds import torch_generator
from llmcore.config.read import read_params
from llmcore.data.download import fetch
from llmcore.data.raw import write_raw_spam, write_raw_tokenizer
from llmcore.data.reading import read_table
from llmcore.model.classifier import SequenceClassifier, pad_rows
from llmcore.model.gpt2 import GPT2Config, GPT2Transformer
from llmcore.model.lora import apply_lora, lora_layers, train_only_lora
from llmcore.tasks.classification import ClassificationTask, LabelledText
from llmcore.tokenizer.load import load_tokenizer
from llmcore.train.compute import Compute
from llmcore.train.step import train_step

BATCH, ROUNDS, EVERY, RANK = 8, 2, 26, 16
END_OF_TEXT = 50256
CPU = Compute(torch.device("cpu"), "fp32")
GOALS = {"fp32": "5 x peft, 12 x the book", "bf16": "4 x peft"}
Steps = Callable[[], object]


def messages() -> list[LabelledText]:
    """Return 1,045 messages, half of them spam, with GPT-2's ids."""
    with TemporaryDirectory() as folder:
        spam, vocabulary = Path(folder, "spam"), Path(folder, "vocabulary")
        spam.mkdir()
        vocabulary.mkdir()
        get = functools.partial(fetch, scratch=Path(folder))
        write_raw_spam(spam, "sms-spam", Path(), 0, 0, get)
        write_raw_tokenizer(vocabulary, "gpt2", Path(), get)
        table = read_table(spam / "SMSSpamCollection", quoting=False)
        tokenizer = load_tokenizer(vocabulary)
        kept = table.groupby("label").sample(747, random_state=123).sample(1045, random_state=123)
        return [
            LabelledText(tokenizer.encode(t), int(n == "spam"))
            for t, n in zip(kept["text"], kept["label"], strict=True)
        ]


def ours(rows: Sequence[LabelledText], every: int = EVERY, precision: str = "fp32") -> Steps:
    config = GPT2Config(50257, 1024, 12, 12, 768, dropout=0.0, tied_head=True, qkv_bias=True)
    model = SequenceClassifier(GPT2Transformer(config), ["ham", "spam"], "last_real", 1024)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.02, generator=torch_generator(0, "initialise"))
    targets = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    draw = torch_generator(0, "lora")
    apply_lora(model, targets, rank=RANK, alpha=RANK, scaling="alpha/rank", dropout=0.0, generator=draw)
    train_only_lora(model, also=["score."])
    if precision == "bf16":  # as `frozen_in_bf16` does
        for layer in lora_layers(model).values():
            layer.weight.data = layer.weight.data.bfloat16()
    task = ClassificationTask(
        rows,
        rows[:8],
        batch_size=BATCH,
        micro_batch_size=BATCH,
        seed=0,
        pad_id=END_OF_TEXT,
        pad_to=None,
        device=CPU.device,
    )
    optimizer = adamw(model)
    widths = [batch.ids.numel() for step in range(len(rows) // BATCH) for batch in task.loader.micro_batches(step)]
    chosen = steps_of(widths, every)
    compute = Compute(CPU.device, precision)

    def steps() -> None:
        for step in chosen:
            train_step(model, task, optimizer, step, lr=1e-4, grad_clip=1.0, seed=0, compute=compute)

    return steps


def steps_of(tokens: Sequence[int], every: int) -> list[int]:
    """Return each `every`th step of an epoch in order of the tokens that they have, padding included."""
    return sorted(range(len(tokens)), key=lambda step: tokens[step])[every // 2 :: every]


def with_peft(rows: Sequence[LabelledText], every: int = EVERY, precision: str = "fp32") -> Steps:
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2ForSequenceClassification

    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    base = GPT2ForSequenceClassification(
        GPT2Config(pad_token_id=END_OF_TEXT, num_labels=2, use_cache=False, **no_dropout)
    )
    names = ["c_attn", "c_proj", "c_fc"]
    model = get_peft_model(
        base, LoraConfig("SEQ_CLS", r=RANK, lora_alpha=RANK, target_modules=names, fan_in_fan_out=True)
    )

    def loss(ids: Tensor, read: Tensor, labels: Tensor) -> Tensor:
        mask = torch.arange(ids.shape[1]) <= read[:, None]
        return model(input_ids=ids, attention_mask=mask.long(), labels=labels).loss

    return peers_steps(model, rows, loss, pad_to=None, every=every, precision=precision)


def with_the_book(rows: Sequence[LabelledText], every: int = EVERY, precision: str = "fp32") -> Steps:
    from llms_from_scratch.appendix_e import replace_linear_with_lora
    from llms_from_scratch.ch04 import GPTModel

    config = {"vocab_size": 50257, "context_length": 1024, "emb_dim": 768, "n_heads": 12, "n_layers": 12}
    model = GPTModel(config | {"drop_rate": 0.0, "qkv_bias": True})
    model.out_head = nn.Linear(768, 2)
    model.requires_grad_(False)
    replace_linear_with_lora(model, rank=RANK, alpha=RANK)
    return peers_steps(
        model,
        rows,
        lambda ids, _read, labels: F.cross_entropy(model(ids)[:, -1], labels),
        pad_to=max(len(row.ids) for row in rows),
        every=every,
        precision=precision,
    )


def peers_steps(
    model: nn.Module,
    rows: Sequence[LabelledText],
    loss_of: Callable[[Tensor, Tensor, Tensor], Tensor],
    pad_to: int | None,
    every: int,
    precision: str,
) -> Steps:
    order = np.random.default_rng(0).permutation(len(rows))
    batches = [[rows[row] for row in order[begin : begin + BATCH]] for begin in range(0, len(rows) - BATCH, BATCH)]
    chosen = steps_of([max(len(row.ids) for row in batch) for batch in batches], every)
    optimizer = adamw(model)
    model.train()

    def steps() -> None:
        for step in chosen:
            ids, read = pad_rows([row.ids for row in batches[step]], END_OF_TEXT, pad_to)
            with Compute(CPU.device, precision).autocast():
                loss = loss_of(ids, read, torch.tensor([row.label for row in batches[step]]))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return steps


def adamw(model: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)


SIDES = {"ours": ours, "peft": with_peft, "llms-from-scratch": with_the_book}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    precision = parser.parse_args().precision
    torch.set_num_threads(read_params().compute.threads)
    torch.manual_seed(0)
    rows = messages()
    titles = {side: side if side == "ours" else named(side) for side in SIDES}
    work = {title: SIDES[side](rows, precision=precision) for side, title in titles.items() if title}
    seconds = take_turns(work, rounds=ROUNDS)
    steps = len(steps_of(range(len(rows) // BATCH), EVERY))
    rates = {name: steps * BATCH / each for name, each in seconds.items()}
    row = Row(
        f"LoRA classification, GPT-2 124M, rank 16, real messages, {precision}",
        "messages/s",
        rates.pop("ours"),
        rates,
        goal=GOALS[precision],
    )
    tell([row])


if __name__ == "__main__":
    main()
