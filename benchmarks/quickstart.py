"""What the benchmarks train: the quickstart's model on rows of the same length, made up, so nothing need be built."""

import numpy as np
import torch
from torch import nn

from llmcore.base.seeds import torch_generator
from llmcore.config.params import Params, Pretrain, read_params
from llmcore.data.tokens import Tokens, join_documents
from llmcore.data.windows import Windows, stride_windows
from llmcore.model.gpt2 import GPT, GPTConfig
from llmcore.tasks.language import LanguageTask
from llmcore.train.compute import Machine, set_up

VOCABULARY, ROWS, VALIDATION_ROWS = 512, 3794, 20  # as in the quickstart, but little validation


def quickstart(steps: int, params: Params | None = None) -> tuple[nn.Module, LanguageTask, Pretrain, Machine]:
    """Return model, task, numbers for so many steps, and machine of the quickstart's pretraining."""
    params = params or read_params()
    machine = set_up(params.compute)
    model = GPT(GPTConfig(vocab_size=VOCABULARY, **params.model.model_dump())).to(machine.device)
    model.initialise(torch_generator(params.seed, "initialise"))
    length = params.sample.window_tokens
    section = params.pretrain
    task = LanguageTask(
        _windows(ROWS, length),
        _windows(VALIDATION_ROWS, length),
        batch_size=section.batch_size,
        micro_batch_size=section.micro_batch_size,
        seed=params.seed,
        val_bytes=1,
        device=torch.device(machine.device),
    )
    return model, task, section.model_copy(update={"epochs": steps / task.steps_per_epoch}), machine


def _windows(rows: int, length: int) -> Windows:
    ids = np.random.default_rng(0).integers(0, VOCABULARY - 1, rows * length)
    tokens: Tokens = join_documents([ids.tolist()], VOCABULARY - 1)
    return Windows(tokens, stride_windows(0, rows * length, length, length))
