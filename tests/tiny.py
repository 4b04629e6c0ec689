"""Tiny models, tasks and settings, shared by the tests of models, tasks, training and decoding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from llmcore.base.seeds import torch_generator
from llmcore.config.generation import GenerationConfig
from llmcore.config.params import ComputeParams, RuntimeParams, TrainingParams
from llmcore.data.tokens import Tokens, join_documents
from llmcore.data.windows import IGNORE_INDEX, Windows, document_windows
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.llama import LlamaConfig
from llmcore.model.lora import apply_lora, train_only_lora
from llmcore.model.registry import architecture, new_model
from llmcore.model.rotary import Rotary
from llmcore.model.transformer import LanguageModel, ModelConfig
from llmcore.tasks.classification import ClassificationTask, LabelledText
from llmcore.tasks.instructions import Example, InstructionTask
from llmcore.tasks.language import LanguageTask
from llmcore.train.compute import Compute

VOCAB = 16
END_OF_TEXT = VOCAB - 1
CONTEXT = 12
CPU = Compute(torch.device("cpu"), "fp32")
EVERY_STEP = RuntimeParams(
    processes=1,
    progress=False,
    tracking=False,
    checkpoint_interval_steps=1,
    checkpoint_interval_seconds=3600.0,
    checkpoints_kept=3,
)


def training(**changes: Any) -> TrainingParams:
    """The params of a training, with small numbers."""
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


def compute_params(**changes: Any) -> ComputeParams:
    """The section `compute`, native on one thread of the CPU."""
    section: dict[str, Any] = {
        "device": "cpu",
        "precision": "fp32",
        "numerics": "native",
        "threads": 1,
        "determinism": "off",
        "parallel": "replicate",
        "activation_checkpointing": False,
        "compile": False,
    }
    return ComputeParams.model_validate(section | changes)


def generation(
    max_new_tokens: int = 6,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    **others: Any,
) -> GenerationConfig:
    """The settings of a generation, greedy unless a temperature is given."""
    return GenerationConfig(max_new_tokens, temperature, top_k, top_p, seed, **others)


# ---- models


def tiny_gpt(dropout: float = 0.0, seed: int = 0, n_layer: int = 2, tied_head: bool = True) -> LanguageModel:
    """A GPT-2 of two layers over `VOCAB` tokens, initialised."""
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


def llama_config(n_kv_head: int = 2, dropout: float = 0.0) -> LlamaConfig:
    """A Llama of two layers and four heads over `VOCAB` tokens."""
    return LlamaConfig(
        vocab_size=VOCAB,
        context_length=CONTEXT,
        n_layer=2,
        n_head=4,
        n_kv_head=n_kv_head,
        n_embd=16,
        head_size=4,
        intermediate_size=20,
        norm_eps=1e-5,
        rotary=Rotary(10_000.0),
        dropout=dropout,
        tied_head=True,
    )


def classifier_of(
    config: ModelConfig, labels: Sequence[str] = ("ham", "spam"), pooling: str = "last_real", max_tokens: int = 20
) -> SequenceClassifier:
    """A classifier of `config`'s architecture whose weights are not drawn yet."""
    transformer = architecture(config.model_type).transformer(config)
    return SequenceClassifier(transformer, list(labels), pooling, max_tokens)


# ---- tasks


def tiny_corpus(documents: int = 12, seed: int = 0) -> Tokens:
    """Documents of 1 to 9 random tokens."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 10, documents)
    return join_documents([generator.integers(0, END_OF_TEXT, length).tolist() for length in lengths], END_OF_TEXT)


def tiny_windows(documents: int = 12, seed: int = 0) -> Windows:
    """The windows of a tiny corpus, each at the beginning of a document."""
    tokens = tiny_corpus(documents, seed)
    return Windows(tokens, document_windows(tokens, 0, len(tokens.ids), CONTEXT))


def language_task(
    batch_size: int = 4,
    micro_batch_size: int = 4,
    seed: int = 0,
    documents: int = 24,
    device: torch.device = CPU.device,
) -> LanguageTask:
    """Train on one tiny corpus, validate on another."""
    return LanguageTask(
        tiny_windows(documents),
        tiny_windows(4, seed=1),
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        seed=seed,
        val_bytes=100,
        device=device,
    )


# ---- the trainings of the pipeline, with dropout and several micro-batches per step


def pretraining(device: torch.device = CPU.device) -> tuple[LanguageModel, LanguageTask]:
    return tiny_gpt(dropout=0.2).to(device), language_task(4, 2, device=device)


def llama_pretraining(device: torch.device = CPU.device) -> tuple[LanguageModel, LanguageTask]:
    model = new_model(llama_config(dropout=0.2))
    model.initialise(torch_generator(0, "initialise"))
    return model.to(device), language_task(4, 2, device=device)


def lora_classification(device: torch.device = CPU.device) -> tuple[SequenceClassifier, ClassificationTask]:
    draw = np.random.default_rng(0)
    model = SequenceClassifier(tiny_gpt(dropout=0.2).body, ["ham", "spam"], "last_real", 8)
    model.initialise_head(torch_generator(0, "head"))
    targets = ["attn.c_attn", "mlp.c_fc"]
    generator = torch_generator(0, "lora")
    apply_lora(model, targets, rank=2, alpha=2, scaling="alpha/rank", dropout=0.2, generator=generator)
    train_only_lora(model, also=["score."])
    rows = [LabelledText(draw.integers(0, END_OF_TEXT, draw.integers(1, 8)).tolist(), n % 2) for n in range(20)]
    task = ClassificationTask(
        rows, rows[:6], batch_size=4, micro_batch_size=2, seed=0, pad_id=END_OF_TEXT, pad_to=None, device=device
    )
    return model.to(device), task


def instruction_tuning(device: torch.device = CPU.device) -> tuple[LanguageModel, InstructionTask]:
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(20):
        ids = draw.integers(0, END_OF_TEXT, draw.integers(3, 10))
        targets = np.where(np.arange(len(ids) - 1) < 1, IGNORE_INDEX, ids[1:])
        rows.append(Example(ids[:-1], targets, length=len(ids) - 1))
    task = InstructionTask(rows, rows[:6], batch_size=4, micro_batch_size=2, seed=0, pad_id=END_OF_TEXT, device=device)
    return tiny_gpt(dropout=0.2).to(device), task


TRAININGS = (pretraining, llama_pretraining, lora_classification, instruction_tuning)


# ---- weights


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a model's weights."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
