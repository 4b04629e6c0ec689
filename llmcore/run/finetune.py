"""Fine-tuning a base model: the part that classification and instruction tuning share."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.base.files import read_jsonl, write_csv, write_jsonl
from llmcore.base.seeds import torch_generator
from llmcore.config.fields import ALL_LINEAR
from llmcore.config.params import ClassifierParams, InstructParams, Params
from llmcore.config.read import read_params
from llmcore.generate.open import open_language_model
from llmcore.model.adapter import save_adapter
from llmcore.model.classifier import SequenceClassifier, set_trainable
from llmcore.model.folder import load_language_model
from llmcore.model.lora import apply_lora, frozen_in_bf16, merged_state, train_only_lora
from llmcore.model.registry import architecture
from llmcore.model.transformer import LanguageModel, TransformerWithHead, parameter_counts
from llmcore.run.training import train, training_run
from llmcore.tasks.batch_view import RowView
from llmcore.tokenizer.tokenizer import Tokenizer
from llmcore.train.compute import Compute, setup_compute
from llmcore.train.task import Task

Section = TypeVar("Section", ClassifierParams, InstructParams)


@dataclass(frozen=True)
class Base(Generic[Section]):
    """What a fine-tuning starts from."""

    params: Params
    section: Section
    compute: Compute
    model: LanguageModel
    tokenizer: Tokenizer
    data: Path
    rows: dict[str, list[Any]]  # of train and val


@dataclass(frozen=True)
class FineTuning:
    """The model and the task of a fine-tuning, and what is written about them."""

    model: TransformerWithHead
    task: Task[Any]
    counts: Mapping[str, float]  # of the training rows
    lengths: Mapping[str, Sequence[int]]  # of the rows of each split, in tokens, before they are cut
    first_batch: Sequence[RowView]
    save: Callable[[Path, Mapping[str, Tensor], Mapping[str, Any]], None]  # folder, merged weights, origin


def finetune(
    stage: str,
    argv: list[str],
    section_name: str,
    data_name: str,
    set_up: Callable[[Base[Section]], FineTuning],
) -> None:
    """Fine-tune the base as `set_up` says and write the model, its metrics and its tables.

    `argv` are the paths of the stage's command; `section_name` names its section of params.yaml, `data_name` its
    data among the inputs.
    """
    base, data, out, metrics_file, tables = map(Path, argv)
    params = read_params()
    section: Section = getattr(params, section_name)
    compute = setup_compute(params.compute)
    with training_run(stage, params, compute, tables, **{"base": base, data_name: data}) as run:
        model, tokenizer = open_language_model(base, dropout=section.dropout)
        check_length(f"{section_name}.max_tokens", section.max_tokens, model.config.context_length)
        rows = {split: list(read_jsonl(data / f"{split}.jsonl")) for split in ("train", "val")}
        tuning = set_up(Base(params, section, compute, model, tokenizer, data, rows))
        # LoRA's frozen weights take half the memory in bf16; merging needs them in fp32 again, and sharding one type
        frozen = frozen_in_bf16(tuning.model, lambda: load_language_model(base).state_dict())
        with frozen if compute.is_bf16 and not compute.is_sharded else nullcontext():
            trained, history = train(run, tuning.model, tuning.task, section)
        tuning.save(out, merged_state(tuning.model), run.origin("base"))
        if section.trainable == "lora":
            values = section.lora.model_dump(include={"alpha", "scaling", "dropout"})
            save_adapter(out / "adapter", tuning.model, base=base, **values)
        metrics = {**parameter_counts(tuning.model), **tuning.counts, **trained}
        run.write_card_facts(["base", data_name], section.model_dump())
        write_csv(tables / "lengths.csv", length_rows(tuning.lengths))
        write_jsonl(tables / "batch.jsonl", [row._asdict() for row in tuning.first_batch])
        run.write_results(out, metrics_file, metrics, history)


def choose_parameters(model: TransformerWithHead, section: ClassifierParams | InstructParams, seed: int) -> None:
    """Train what `trainable` names: low-rank updates of some layers, parts of the model, or all of it."""
    if section.trainable == "lora":
        numbers = section.lora.model_dump(exclude={"targets"})
        targets = lora_targets(section.lora.targets, architecture(model.config.model_type).lora_targets)
        apply_lora(model, targets, **numbers, generator=torch_generator(seed, "lora"))
        train_only_lora(model, also=["score."])
    elif isinstance(model, SequenceClassifier):
        set_trainable(model, section.trainable)


def lora_targets(targets: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    """Return the names of the layers that get an update; UserError for one that the base does not have."""
    if targets == ALL_LINEAR:
        return known
    for target in targets:
        if target not in known:
            raise UserError(
                f"lora.targets must be {ALL_LINEAR} or among {', '.join(known)}, got {target!r}; correct it"
            )
    return targets


def check_length(key: str, max_tokens: int, context_length: int) -> None:
    """UserError if rows may be longer than the base can read."""
    if max_tokens > context_length:
        rule = f"must be at most the base's context of {context_length} tokens, got {max_tokens}"
        raise UserError(f"{key} {rule}; lower it")


def length_rows(lengths: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    return [{"split": split, "tokens": length} for split, found in lengths.items() for length in found]
