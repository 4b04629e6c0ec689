"""What the benchmarks train: the quickstart's model on random rows of one length, so that nothing need be built."""

import numpy as np
import torch

from llmcore.base.seeds import torch_generator
from llmcore.config.params import Params, PretrainParams
from llmcore.config.read import read_params
from llmcore.data.tokens import Tokens, join_documents
from llmcore.data.windows import StrideWindows, Windows
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel
from llmcore.tasks.language import LanguageTask
from llmcore.train.compute import Compute, setup_compute

VOCABULARY, ROWS, VALIDATION_ROWS = 512, 3794, 20  # as in the quickstart, but little validation


def quickstart(steps: int, params: Params | None = None) -> tuple[LanguageModel, LanguageTask, PretrainParams, Compute]:
    """Return model, task, params for `steps` steps, and compute of the quickstart's pretraining."""
    params = params or read_params()
    compute = setup_compute(params.compute)
    model = new_model(GPT2Config(vocab_size=VOCABULARY, **params.model.model_dump())).to(compute.device)
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
        device=torch.device(compute.device),
    )
    return model, task, section.model_copy(update={"epochs": steps / task.loader.steps_per_epoch}), compute


def _windows(rows: int, length: int) -> Windows:
    ids = np.random.default_rng(0).integers(0, VOCABULARY - 1, rows * length)
    tokens: Tokens = join_documents([ids.tolist()], VOCABULARY - 1)
    return Windows(tokens, StrideWindows(0, rows * length, length, length))
