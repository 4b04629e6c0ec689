"""What `run.measure` measures: each stage's own functions on sample rows. Times in seconds, sizes in bytes."""

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from llmcore.base import parallel
from llmcore.base.seeds import numpy_generator, torch_generator
from llmcore.config.params import ClassifierParams, InstructParams, Params, TrainingParams
from llmcore.config.read import read_params
from llmcore.data.samples import choose_samples
from llmcore.data.split import normalise_message
from llmcore.data.tokens import join_documents
from llmcore.data.windows import Windows
from llmcore.evaluate.classification import evaluate_classifier
from llmcore.evaluate.scores import Uncertainty
from llmcore.generate.classify import classify_texts
from llmcore.generate.decode import decode
from llmcore.generate.open import open_language_model
from llmcore.generate.write import instruction_prompts
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.costs import ActivationCounter, gradient_bytes, optimizer_bytes, training_flops, weight_bytes
from llmcore.model.lora import frozen_in_bf16
from llmcore.model.registry import architecture, new_model
from llmcore.model.transformer import LanguageModel, TransformerWithHead, parameter_counts
from llmcore.run.finetune import choose_parameters
from llmcore.run.measure import Figures, Sample
from llmcore.run.processes import PRETRAINED
from llmcore.tasks.classification import classification_task
from llmcore.tasks.instructions import answer_likelihoods, instruction_task
from llmcore.tasks.language import LanguageTask, text_metrics
from llmcore.tokenizer.bpe import BytePairTokenizer, load_byte_pair_tokenizer
from llmcore.tokenizer.tokenizer import Tokenizer
from llmcore.tokenizer.train import train_tokenizer
from llmcore.train.compute import Compute, setup_compute
from llmcore.train.loop import Task, evaluate, train_step
from llmcore.train.optimizer import make_optimizer

STEPS_SECONDS = 2.0  # of measured steps, for each training
MAX_STEPS = 100
MAX_VAL_ROWS = 64  # evaluated


@dataclass(frozen=True)
class Setting:
    """What all stages are measured with."""

    params: Params
    compute: Compute
    sample: Sample
    own: BytePairTokenizer  # of pretraining

    def base(self, dropout: float) -> tuple[LanguageModel, Tokenizer]:
        """Return the base of fine-tuning: as it is on disk, or with fresh weights where pretraining will make it."""
        path = Path(self.params.weights.path)
        if path == PRETRAINED:
            return self.fresh(dropout), self.own
        model, tokenizer = open_language_model(path, dropout)
        model.crop_context(self.params.weights.context_length or model.config.context_length)
        return model, tokenizer

    def fresh(self, dropout: float) -> LanguageModel:
        """Return a model of the section `model`."""
        section = self.params.model
        entry = architecture(section.kind)
        config = entry.config_from_params(section.model_dump(), self.sample.vocab_size or self.own.vocab_size)
        model = new_model(replace(config, dropout=dropout))
        model.initialise(torch_generator(0, "initialise"))
        return model


def measure_stages(sample: Sample, stages: Sequence[str]) -> Figures:
    """Return the figures of each stage; all processes measure together, the first one's figures count."""
    params = read_params()
    compute = setup_compute(params.compute)
    begin = time.perf_counter()
    own, tokenizing = _tokenizer(sample, params)
    setting = Setting(params, compute, sample, own)
    found: Figures = {}
    for stage in stages:
        figures = tokenizing if stage == "tokenize" else STAGES[stage](setting)
        gc.collect()
        found[stage] = figures | {"measured_seconds": time.perf_counter() - begin, "processes": parallel.n_processes()}
        begin = time.perf_counter()
    return found


def _tokenizer(sample: Sample, params: Params) -> tuple[BytePairTokenizer, dict[str, float]]:
    begin = time.perf_counter()
    if sample.tokenizer:
        own = load_byte_pair_tokenizer(sample.tokenizer)
    else:
        own = train_tokenizer(sample.texts, params.tokenizer.vocab_size)
    learned = time.perf_counter()
    ids = list(own.encode_stream(sample.texts))
    encoded = time.perf_counter()
    n_bytes = sum(len(text.encode()) for text in sample.texts)
    return own, {
        "learning_seconds_per_byte": 0.0 if sample.tokenizer else (learned - begin) / n_bytes,
        "encoding_seconds_per_byte": (encoded - learned) / n_bytes,
        "tokens_per_byte": sum(map(len, ids)) / n_bytes,
        "vocab_size": sample.vocab_size or own.vocab_size,
    }


# ---- trainings


def pretrain(setting: Setting) -> dict[str, float]:
    params, section = setting.params, setting.params.pretrain
    tokens = join_documents(list(setting.own.encode_stream(setting.sample.texts)), setting.own.end_of_text)
    # at least a window's worth for validation, also of a sample that is shorter than the data
    fraction = max(params.sample.val_fraction, 2 * params.sample.window_tokens / len(tokens.ids))
    samples = choose_samples(tokens, **params.sample.model_dump() | {"val_fraction": min(fraction, 0.5)})
    task = LanguageTask(
        Windows(tokens, samples.train),
        Windows(tokens, samples.val),
        batch_size=section.batch_size,
        micro_batch_size=section.micro_batch_size,
        seed=params.seed,
        val_bytes=1,
        device=setting.compute.device,
    )
    model = setting.fresh(params.model.dropout).to(setting.compute.device)
    found = _training(setting, model, task, section, n_val=len(task.val))
    return found | {"windows_per_token": (len(samples.train) + len(samples.val)) / len(tokens.ids)}


def finetune_classifier(setting: Setting) -> dict[str, float]:
    section = setting.params.classifier
    model, tokenizer = _classifier(setting, section)
    rows = {"train": setting.sample.labelled, "val": setting.sample.labelled[:MAX_VAL_ROWS]}
    task, _ = classification_task(
        section, rows, model.labels, tokenizer, seed=setting.params.seed, device=setting.compute.device
    )
    cached = 0
    if not section.dropout and model.n_frozen_blocks:
        cached = model.n_frozen_blocks
        with setting.compute.autocast():
            task.cache_frozen_prefix(model)
    return _training(setting, model, task, section, n_val=len(task.val), n_cached_blocks=cached)


def finetune_instruct(setting: Setting) -> dict[str, float]:
    section = setting.params.instruct
    model, tokenizer = setting.base(section.dropout)
    choose_parameters(model, section, setting.params.seed)
    model.to(setting.compute.device)
    rows = {"train": setting.sample.instructions, "val": setting.sample.instructions[:MAX_VAL_ROWS]}
    task, examples = instruction_task(section, rows, tokenizer, seed=setting.params.seed, device=setting.compute.device)
    found = _training(setting, model, task, section, n_val=len(task.val))
    return found | {"packed_share": len(task.train) / len(examples["train"])}


def _classifier(setting: Setting, section: ClassifierParams) -> tuple[SequenceClassifier, Tokenizer]:
    base, tokenizer = setting.base(section.dropout)
    labels = sorted({row["label"] for row in setting.sample.labelled})
    model = SequenceClassifier(base.body, labels, section.pooling, section.max_tokens)
    model.initialise_head(torch_generator(0, "head"))
    choose_parameters(model, section, setting.params.seed)
    return model.to(setting.compute.device), tokenizer


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
    halves = compute.is_bf16 and uses_lora
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()} if halves else {}
    with frozen_in_bf16(model, lambda: whole) if halves else nullcontext():
        optimizer = make_optimizer(model, section)
        step = partial(
            train_step, model, task, optimizer, lr=section.min_lr, grad_clip=section.grad_clip, seed=0, compute=compute
        )
        step(0)
        once = _seconds(lambda: step(1))
        n_steps = parallel.from_first(max(1, min(MAX_STEPS, int(STEPS_SECONDS / once))))
        begin = time.perf_counter()
        done = [step(number) for number in range(2, 2 + n_steps)]
        seconds = (time.perf_counter() - begin) / n_steps
        per_row = _seconds(lambda: evaluate(model, task, compute)) / n_val
        activations = _activation_bytes(model, task, compute)
    shares = task.loader.n_micro_batches // parallel.n_processes()
    flops = [_flops(model, task, number, n_cached_blocks) for number in range(2, 2 + min(n_steps, 10))]
    return {
        **parameter_counts(model),
        "step_seconds": seconds,
        "evaluation_seconds_per_row": per_row,
        "step_tokens": float(np.mean([result.n_tokens for result in done])),
        "step_flops": float(np.mean(flops)),
        "n_layer": model.config.n_layer,
        "weight_bytes": weight_bytes(model, bf16=halves),
        "gradient_bytes": gradient_bytes(model, n_micro_batches=shares, processes=parallel.n_processes()),
        "optimizer_bytes": optimizer_bytes(model, section.optimizer),
        "activation_bytes": activations,
    }


def _activation_bytes(model: TransformerWithHead, task: Task[Any], compute: Compute) -> int:
    model.train()
    with ActivationCounter(model) as kept, compute.autocast():
        task.loss_sum(model, task.loader.micro_batches(0)[0])
    return kept.bytes


def _flops(model: TransformerWithHead, task: Task[Any], step: int, n_cached_blocks: int) -> int:
    total = 0
    for batch in task.loader.micro_batches(step):
        ids = batch.inputs if hasattr(batch, "inputs") else batch.ids
        rows, length = ids.shape
        total += sum(
            training_flops(model, rows=rows, length=length, n_targets=batch.n_targets, n_cached_blocks=n_cached_blocks)
        )
    return total


# ---- evaluations


def load_gpt2(setting: Setting) -> dict[str, float]:
    model, tokenizer = setting.base(0.0)
    model.to(setting.compute.device).eval()
    texts = setting.sample.texts[:MAX_VAL_ROWS]
    length = min(setting.params.sample.window_tokens, model.config.context_length)
    with setting.compute.autocast():
        seconds = _seconds(lambda: text_metrics(model, tokenizer, texts, window_tokens=length))
    return {"seconds_per_byte": seconds / sum(len(text.encode()) for text in texts)} | parameter_counts(model)


def evaluate_classifier_stage(setting: Setting) -> dict[str, float]:
    """The model's rows, and the baselines on the same ones."""
    section, rows = setting.params.evaluate_classifier, setting.sample.labelled[: 4 * MAX_VAL_ROWS]
    model, tokenizer = _classifier(setting, setting.params.classifier)
    model.eval()
    classify = partial(classify_texts, model, tokenizer, batch_size=section.batch_size)
    importing = _seconds(_import_scikit_learn)
    with setting.compute.autocast():
        classify([row["text"] for row in rows[:8]])
        begin = time.perf_counter()
        probabilities = classify([row["text"] for row in rows]).numpy()
        seconds = time.perf_counter() - begin
    train: Any = setting.sample.labelled
    test: Any = rows
    uncertainty = Uncertainty(section.confidence, numpy_generator(0, "bootstrap"))
    baselines = _seconds(
        lambda: evaluate_classifier(
            train, [(train, test)], test, model.labels, probabilities, normalise_message, uncertainty
        )
    )
    return {
        "seconds": importing,
        "seconds_per_row": seconds / len(rows),
        "baseline_seconds_per_row": baselines / (len(train) + len(rows)),
    }


def evaluate_instruct(setting: Setting) -> dict[str, float]:
    """Answers as long as the longest of the sample's, because fresh weights do not end them."""
    section, instruct = setting.params.evaluate_instruct, setting.params.instruct
    model, tokenizer = setting.base(0.0)
    model.to(setting.compute.device).eval()
    rows = setting.sample.instructions[:MAX_VAL_ROWS]
    longest = 1 + max(len(tokenizer.encode(row["output"])) for row in rows)
    config = section.generation(0)
    config = replace(config, max_new_tokens=min(config.max_new_tokens, longest))
    asked = [(row["instruction"], row["input"]) for row in rows]
    ids = instruction_prompts(tokenizer, instruct.prompt, asked).ids
    ids = [prompt for prompt in ids if len(prompt) < model.config.context_length]
    with setting.compute.autocast():
        decode(model, ids[:2], config, stop_ids=())
        answering = _seconds(lambda: decode(model, ids, config, stop_ids=()))
        scoring = _seconds(lambda: answer_likelihoods(model, tokenizer, instruct.prompt, rows, batch_size=MAX_VAL_ROWS))
    return {"seconds_per_row": (answering / parallel.n_processes() + scoring) / len(rows)}


def track(setting: Setting) -> dict[str, float]:
    """What every tracked stage pays for MLflow."""
    return {"seconds": _seconds(_import_mlflow)}


STAGES: dict[str, Callable[[Setting], dict[str, float]]] = {
    "pretrain": pretrain,
    "load_gpt2": load_gpt2,
    "finetune_classifier": finetune_classifier,
    "evaluate_classifier": evaluate_classifier_stage,
    "finetune_instruct": finetune_instruct,
    "evaluate_instruct": evaluate_instruct,
    "track": track,
}


def _import_scikit_learn() -> None:
    import sklearn.feature_extraction.text
    import sklearn.linear_model  # noqa: F401


def _import_mlflow() -> None:
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def _seconds(body: Callable[[], object]) -> float:
    begin = time.perf_counter()
    body()
    return time.perf_counter() - begin
