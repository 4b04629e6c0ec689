"""What the tests of tasks, training and decoding share: a corpus of few tokens, a model of few weights."""

from typing import Any

import numpy as np
import torch

from llmcore.base.seeds import torch_generator
from llmcore.config.params import TrainingParams
from llmcore.data.tokens import Tokens, join_documents
from llmcore.data.windows import Windows, document_windows
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.transformer import LanguageModel
from llmcore.tasks.language import LanguageTask
from llmcore.train.compute import Compute

VOCAB = 16
END_OF_TEXT = VOCAB - 1
CONTEXT = 12
CPU = Compute(torch.device("cpu"), "fp32")


def training(**changes: Any) -> TrainingParams:
    """The keys of a training, with numbers for tests."""
    numbers: dict[str, Any] = {
        "epochs": 2.0,
        "batch_size": 1,  # the tests' tasks are given their own
        "micro_batch_size": 1,
        "optimizer": "adamw",
        "lr": 1e-2,
        "min_lr": 1e-2,
        "warmup_steps": 0,
        "weight_decay": 0.1,
        "beta1": 0.9,
        "beta2": 0.99,
        "grad_clip": 1.0,
        "eval_interval_steps": 1000,
        "early_stopping_patience": 0,
        "keep_checkpoint": "last",
    }
    return TrainingParams(**(numbers | changes))


def tiny_gpt(dropout: float = 0.0, seed: int = 0, n_layer: int = 2, tied_head: bool = True) -> LanguageModel:
    """A GPT of two layers over `VOCAB` tokens, initialised."""
    config = GPT2Config(
        vocab_size=VOCAB,
        context_length=CONTEXT,
        n_layer=n_layer,
        n_head=2,
        n_embd=16,
        dropout=dropout,
        qkv_bias=True,
        tied_head=tied_head,
    )
    model = new_model(config)
    model.initialise(torch_generator(seed, "initialise"))
    return model


def tiny_corpus(documents: int = 12, seed: int = 0) -> Tokens:
    """Documents of 1 to 9 random tokens."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 10, documents)
    return join_documents([generator.integers(0, END_OF_TEXT, length).tolist() for length in lengths], END_OF_TEXT)


def language_task(batch_size: int = 4, micro_batch_size: int = 4, seed: int = 0, documents: int = 24) -> LanguageTask:
    """Train on one tiny corpus, validate on another."""
    parts = []
    for tokens in (tiny_corpus(documents), tiny_corpus(4, seed=1)):
        parts.append(Windows(tokens, document_windows(tokens, 0, len(tokens.ids), CONTEXT)))
    return LanguageTask(
        *parts,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        seed=seed,
        val_bytes=100,
        device=CPU.device,
    )


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a model's weights."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
