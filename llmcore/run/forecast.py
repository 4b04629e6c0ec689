"""The forecast of `llmcore plan`: what each stage needs, from amounts of data and figures measured here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmcore.config.params import Params, TrainingParams
from llmcore.run.amounts import Amounts
from llmcore.run.gpus import Gpu
from llmcore.run.launch import TRAININGS
from llmcore.run.measure import Figures

COPIES = 2  # of an output: in the workspace and in DVC's cache, where the file system has no reflinks


@dataclass(frozen=True)
class Training:
    """What a training will do, and what it needs."""

    steps: int
    evaluations: int
    tokens: int  # inputs seen in training
    flops: float
    seconds: float
    step_seconds: float
    processes: int
    memory: Mapping[str, int]  # bytes of one process by part


@dataclass(frozen=True)
class Forecast:
    """Seconds of each stage's run, `starting` those of its processes before it, the trainings, and bytes on disk."""

    seconds: dict[str, float]
    starting: dict[str, float]
    trainings: dict[str, Training]
    disk: dict[str, int]
    figures: Figures
    tokens: int
    train_windows: int
    val_windows: int


def forecast(params: Params, data: Amounts, figures: Figures) -> Forecast:
    """Return the forecast; a stage without figures has none."""
    text = figures["tokenize"]
    tokens = data.tokens or round(data.text_bytes * text["tokens_per_byte"]) + data.documents - 1
    windows = tokens * figures["pretrain"]["windows_per_token"]
    train_windows = data.train_windows or max(1, round(windows * (1 - params.sample.val_fraction)))
    val_windows = data.val_windows or max(1, round(windows * params.sample.val_fraction))
    rows = {
        "pretrain": (train_windows, val_windows),
        "finetune_classifier": (data.spam["train"], data.spam["val"]),
        "finetune_instruct": (data.instructions["train"], data.instructions["val"]),
    }
    sections = {stage: getattr(params, section) for stage, section in TRAININGS.items() if stage in figures}
    if found := figures.get("pretrain"):
        window_tokens = found["step_tokens"] / params.pretrain.batch_size
        sections["pretrain"] = params.pretrain.in_epochs(data.epoch_tokens or window_tokens * train_windows)
    trainings = {stage: _training(section, *rows[stage], figures[stage]) for stage, section in sections.items()}
    seconds = {stage: training.seconds for stage, training in trainings.items()}
    seconds |= _other_seconds(params, data, figures)
    tracking = figures["track"]["seconds"] if params.runtime.tracking else 0.0
    return Forecast(
        seconds={stage: value + tracking for stage, value in seconds.items()},
        starting={stage: figures[stage]["starting_seconds"] for stage in seconds},
        trainings=trainings,
        disk=_disk(params, data, tokens, figures, list(trainings)),
        figures=figures,
        tokens=tokens,
        train_windows=train_windows,
        val_windows=val_windows,
    )


def _training(section: TrainingParams, train_rows: int, val_rows: int, found: Mapping[str, float]) -> Training:
    train_rows = max(1, round(train_rows * found.get("packed_share", 1.0)))
    steps = max(1, round(section.epochs * -(-train_rows // section.batch_size)))
    evaluations = 1 + -(-steps // section.eval_interval_steps)
    evaluating = evaluations * val_rows * found["evaluation_seconds_per_row"]
    parts = ("weight", "gradient", "optimizer", "activation")
    return Training(
        steps=steps,
        evaluations=evaluations,
        tokens=round(steps * found["step_tokens"]),
        flops=steps * found["step_flops"],
        seconds=steps * found["step_seconds"] + evaluating,
        step_seconds=found["step_seconds"],
        processes=int(found["processes"]),
        memory={part: int(found[f"{part}_bytes"]) for part in parts},
    )


def _other_seconds(params: Params, data: Amounts, figures: Figures) -> dict[str, float]:
    text = figures["tokenize"]
    found = {"tokenize": data.text_bytes * (text["learning_seconds_per_byte"] + text["encoding_seconds_per_byte"])}
    if load := figures.get("load_gpt2"):
        found["load_gpt2"] = data.text_bytes * params.sample.val_fraction * load["seconds_per_byte"]
    if classifier := figures.get("evaluate_classifier"):
        found["evaluate_classifier"] = (
            classifier["seconds"]
            + data.spam["test"] * classifier["seconds_per_row"]
            + sum(data.spam.values()) * classifier["baseline_seconds_per_row"]
        )
    if instruct := figures.get("evaluate_instruct"):
        found["evaluate_instruct"] = data.instructions["test"] * instruct["seconds_per_row"]
    return found


def _disk(params: Params, data: Amounts, tokens: int, figures: Figures, trainings: Sequence[str]) -> dict[str, int]:
    """Return bytes by what they are kept for."""
    weights = {stage: int(4 * figures[stage]["parameters"]) for stage in trainings}
    base = weights.get("finetune_instruct", 0)
    states = [figures[stage]["checkpoint_bytes"] for stage in trainings]
    token_bytes = 2 if figures["tokenize"]["vocab_size"] <= 1 << 16 else 4
    return {
        "text and tokens": COPIES * (data.text_bytes + token_bytes * tokens),
        "models": COPIES * (sum(weights.values()) + base),
        "checkpoints": int(params.runtime.checkpoints_kept * max(states)),  # of one training at a time
    }


def gpu_seconds(gpu: Gpu, training: Training, section: TrainingParams, *, n_layer: int, precision: str) -> float:
    """Estimate a training's steps on a GPU, without its evaluations."""
    n_micro_batches = -(-section.batch_size // section.micro_batch_size)
    step = gpu.step_seconds(
        training.flops / training.steps,
        precision=precision,
        n_layer=n_layer,
        n_micro_batches=n_micro_batches,
    )
    return training.steps * step
