"""What `llmcore plan` measures of the trainings: a few real steps of each. Times in seconds, sizes in bytes."""

import time
from contextlib import nullcontext
from typing import Any

import numpy as np
from torch import Tensor

from llmcore.base import parallel
from llmcore.config.params import ClassifierParams, InstructParams, TrainingParams
from llmcore.data.samples import choose_samples
from llmcore.data.tokens import join_documents
from llmcore.data.windows import Windows
from llmcore.model.costs import (
    ActivationCounter,
    gathered_bytes,
    gradient_bytes,
    optimizer_bytes,
    training_flops,
    weight_bytes,
)
from llmcore.model.lora import frozen_in_bf16
from llmcore.model.transformer import TransformerWithHead, parameter_counts
from llmcore.run.finetune import choose_parameters
from llmcore.run.measured_setting import MAX_VAL_ROWS, Setting, seconds_of
from llmcore.tasks.classification import classification_task
from llmcore.tasks.instructions import instruction_task
from llmcore.tasks.language import LanguageTask
from llmcore.train.blocks import trained_model
from llmcore.train.compute import Compute
from llmcore.train.history import History
from llmcore.train.loop import PendingSteps, evaluate
from llmcore.train.optimizer import make_optimizer
from llmcore.train.step import start_step
from llmcore.train.task import Task

STEPS_SECONDS = 2.0  # of measured steps, for each training
MAX_STEPS = 100


def pretrain(setting: Setting) -> dict[str, float]:
    params, section = setting.params, setting.params.pretrain
    tokens = join_documents(list(setting.own.encode_stream(setting.sample.texts)), setting.own.end_of_text)
    # at least a window's worth for validation, also of a sample that is shorter than the data
    fraction = max(params.sample.val_fraction, 2 * params.sample.window_tokens / len(tokens.ids))
    sampling = params.sample.model_dump() | {"val_fraction": min(fraction, 0.5), "weights": {}}
    samples = choose_samples(tokens, **sampling)
    task = LanguageTask(
        Windows(tokens, samples.train),
        Windows(tokens, samples.val),
        batch_size=section.batch_size,
        micro_batch_size=section.micro_batch_size,
        seed=params.seed,
        val_bytes=1,
        device=setting.compute.device,
    )
    model = setting.compute.place(setting.fresh(params.model.dropout))
    found = _training(setting, model, task, section, n_val=len(task.val))
    return found | {"windows_per_token": (len(samples.train) + len(samples.val)) / len(tokens.ids)}


def finetune_classifier(setting: Setting) -> dict[str, float]:
    section = setting.params.classifier
    model, tokenizer = setting.classifier()
    rows = {"train": setting.sample.labelled, "val": setting.sample.labelled[:MAX_VAL_ROWS]}
    task, _ = classification_task(
        section, rows, model.labels, tokenizer, seed=setting.params.seed, device=setting.compute.device
    )
    cached = 0
    if not section.dropout and model.n_frozen_blocks and not setting.compute.is_sharded:
        cached = model.n_frozen_blocks
        with setting.compute.autocast():
            task.cache_frozen_prefix(model)
    return _training(setting, model, task, section, n_val=len(task.val), n_cached_blocks=cached)


def finetune_instruct(setting: Setting) -> dict[str, float]:
    section = setting.params.instruct
    model, tokenizer = setting.base(section.dropout)
    choose_parameters(model, section, setting.params.seed)
    setting.compute.place(model)
    rows = {"train": setting.sample.instructions, "val": setting.sample.instructions[:MAX_VAL_ROWS]}
    task, examples = instruction_task(section, rows, tokenizer, seed=setting.params.seed, device=setting.compute.device)
    found = _training(setting, model, task, section, n_val=len(task.val))
    return found | {"packed_share": len(task.train) / len(examples["train"])}


def _training(
    setting: Setting,
    model: TransformerWithHead,
    task: Task[Any],
    section: TrainingParams,
    *,
    n_val: int,
    n_cached_blocks: int = 0,
) -> dict[str, float]:
    """Return sizes, and the times of a step and of the evaluation of a row."""
    compute = setting.compute
    uses_lora = isinstance(section, ClassifierParams | InstructParams) and section.trainable == "lora"
    halves = compute.is_bf16 and uses_lora and not compute.is_sharded
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()} if halves else {}
    frozen = frozen_in_bf16(model, lambda: whole) if halves else nullcontext()
    with frozen, trained_model(model, compute) as trained:
        optimizer = make_optimizer(trained, section)
        how: dict[str, Any] = {"lr": section.min_lr, "grad_clip": section.grad_clip, "seed": 0, "compute": compute}

        def steps(numbers: range) -> History:
            done = History()
            pending = PendingSteps(done)
            for number in numbers:
                pending.add(start_step(trained, task, optimizer, number, **how), reads_late=compute.reads_late)
            pending.settle()
            return done

        steps(range(1))
        once = seconds_of(lambda: steps(range(1, 2)))
        n_steps = parallel.from_first(max(1, min(MAX_STEPS, int(STEPS_SECONDS / once))))
        begin = time.perf_counter()
        done = steps(range(2, 2 + n_steps))
        seconds = (time.perf_counter() - begin) / n_steps
        per_row = seconds_of(lambda: evaluate(trained, task, compute)) / n_val
        activations = _activation_bytes(trained, task, compute, n_cached_blocks)
    flops = [_flops(model, task, number, n_cached_blocks) for number in range(2, 2 + min(n_steps, 10))]
    return {
        **parameter_counts(model),
        "step_seconds": seconds,
        "evaluation_seconds_per_row": per_row,
        "step_tokens": done.tokens_seen / n_steps,
        "step_flops": float(np.mean(flops)),
        "n_layer": model.config.n_layer,
        "activation_bytes": activations,
        "checkpoint_bytes": gradient_bytes(model, n_micro_batches=1, processes=1)  # as many as the trained weights
        + optimizer_bytes(model, section.optimizer),
        **_state_bytes(model, task, section, compute, halves),
    }


def _state_bytes(
    model: TransformerWithHead, task: Task[Any], section: TrainingParams, compute: Compute, halves: bool
) -> dict[str, int]:
    """Return the bytes of a process's weights, gradients and optimizer state; with `halves`, frozen ones are bf16."""
    processes = parallel.n_processes()
    optimizer = optimizer_bytes(model, section.optimizer)
    if not compute.is_sharded:
        shares = task.loader.n_micro_batches // processes
        gradients = gradient_bytes(model, n_micro_batches=shares, processes=processes)
        weights = weight_bytes(model, bf16=halves)
        return {"weight_bytes": weights, "gradient_bytes": gradients, "optimizer_bytes": optimizer}
    return {
        "weight_bytes": weight_bytes(model) // processes + gathered_bytes(model, bf16=compute.is_bf16),
        "gradient_bytes": gradient_bytes(model, n_micro_batches=1, processes=1) // processes,
        "optimizer_bytes": optimizer // processes,
    }


def _activation_bytes(model: TransformerWithHead, task: Task[Any], compute: Compute, n_cached_blocks: int) -> int:
    model.train()
    batch = task.loader.micro_batches(0)[0]
    with ActivationCounter() as kept, compute.autocast():
        task.loss_sum(model, batch)
    if not compute.activation_checkpointing:
        return kept.bytes
    blocks = model.config.n_layer - n_cached_blocks  # their inputs are kept, in fp32
    return kept.bytes + blocks * 4 * _ids(batch).numel() * model.config.n_embd


def _ids(batch: Any) -> Tensor:
    ids: Tensor = batch.inputs if hasattr(batch, "inputs") else batch.ids
    return ids


def _flops(model: TransformerWithHead, task: Task[Any], step: int, n_cached_blocks: int) -> int:
    total = 0
    for batch in task.loader.micro_batches(step):
        rows, length = _ids(batch).shape
        total += sum(
            training_flops(model, rows=rows, length=length, n_targets=batch.n_targets, n_cached_blocks=n_cached_blocks)
        )
    return total
