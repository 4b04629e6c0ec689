"""The schema of params.yaml: one frozen model per section, unknown keys refused, no default values.

Numbers live in params.yaml alone, so an edit here changes no result. Rules between keys, and between sections, are
checked once the keys that they compare are valid.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from llmcore.config.evaluation import EvaluateClassifierParams, EvaluateInstructParams
from llmcore.config.fields import (
    LARGEST_DIMENSION,
    MOST_THREADS,
    Bool,
    Budget,
    Dimension,
    Fraction,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    Nucleus,
    PositiveFloat,
    PositiveInt,
    Probability,
    Processes,
    QuotedPath,
    Section,
    Seed,
    Targets,
    Text,
)
from llmcore.config.generation import GenerationConfig
from llmcore.config.sources import SourcesParams

RAW_WEIGHTS = Path("data/raw/weights")  # what weights.download writes to
PublishedWeights = Literal[  # a test compares these names with the table of downloads
    "gpt2",
    "gpt2-medium",
    "gpt2-large",
    "gpt2-xl",
    "smollm2-135m",
    "smollm2-135m-instruct",
    "smollm2-135m-instruct-q4",
    "smollm2-360m",
    "qwen3-0.6b",
]


class WeightsParams(Section):
    download: list[PublishedWeights]
    path: QuotedPath  # model folder or .gguf file that load_gpt2 reads
    context_length: NonNegativeInt  # positions that load_gpt2 keeps; 0 keeps all


class TokenizerParams(Section):
    kind: Literal["trained", "given"]
    vocab_size: Annotated[
        int, Field(strict=True, ge=257, le=LARGEST_DIMENSION)
    ]  # with end-of-text; upper limit when trained
    sample_bytes: NonNegativeInt  # about as much text, drawn by documents, is learned from; 0 is all
    sample_seed: Seed


class SampleParams(Section):
    window_tokens: PositiveInt
    stride_tokens: PositiveInt
    window_start: Literal["documents", "stride"]
    val_fraction: Fraction
    weights: dict[str, PositiveFloat]  # of the parts of a mixture, by name; {}: each by its size


class ModelParams(Section):
    kind: Literal["gpt2", "llama"]
    context_length: Dimension
    n_layer: Dimension
    n_head: Dimension
    n_embd: Dimension
    dropout: Probability
    tied_head: Bool
    qkv_bias: Bool  # kind gpt2
    n_kv_head: Dimension  # kind llama: heads of keys and values
    intermediate_size: Dimension  # kind llama: width of the MLP
    rope_theta: PositiveFloat  # kind llama

    @model_validator(mode="after")
    def _heads_fit(self) -> "ModelParams":
        problems = []
        if self.n_embd % self.n_head:
            problems.append(f"n_embd must be a multiple of n_head ({self.n_head}), got {self.n_embd}; correct either")
        elif self.kind == "llama" and self.n_embd // self.n_head % 2:
            rule = f"must give each of n_head ({self.n_head}) heads an even number of features"
            problems.append(f"n_embd {rule}, got {self.n_embd}; correct either")
        if self.kind == "llama" and self.n_head % self.n_kv_head:
            problems.append(f"n_kv_head must divide n_head ({self.n_head}), got {self.n_kv_head}; correct either")
        if problems:
            raise ValueError("\n".join(problems))
        return self


class TrainingParams(Section):
    """What the one training loop needs; pretraining and both fine-tunings share it."""

    epochs: PositiveFloat
    batch_size: PositiveInt  # rows per optimizer step
    micro_batch_size: PositiveInt  # rows per forward and backward pass
    optimizer: Literal["adamw", "muon"]
    lr: PositiveFloat  # peak, after warm-up
    min_lr: NonNegativeFloat  # end of the cosine
    warmup_steps: NonNegativeInt
    weight_decay: NonNegativeFloat
    beta1: Probability
    beta2: Probability
    grad_clip: PositiveFloat  # largest norm of the whole gradient
    eval_interval_steps: PositiveInt
    early_stopping_patience: NonNegativeInt  # evaluations without improvement; 0 is off
    keep_checkpoint: Literal["last", "best"]  # the weights that the training ends with

    @model_validator(mode="after")
    def _ordered(self) -> "TrainingParams":
        problems = []
        parts, rest = divmod(self.batch_size, self.micro_batch_size)
        if rest or parts & (parts - 1):  # a power of two has no bit in common with the number before it
            rule = f"must be batch_size ({self.batch_size}) divided by a power of two, got {self.micro_batch_size}"
            problems.append(f"micro_batch_size {rule}; correct either")
        if self.min_lr > self.lr:
            problems.append(f"min_lr must be at most lr ({self.lr}), got {self.min_lr}; lower it")
        if problems:
            raise ValueError("\n".join(problems))
        return self


class PretrainParams(TrainingParams):
    tokens: Budget  # input tokens to train on; 0: `epochs` count
    sample_prompt: Text
    sample_tokens: PositiveInt
    sample_temperature: NonNegativeFloat
    sample_top_p: Nucleus

    def in_epochs(self, epoch_tokens: float) -> "PretrainParams":
        """Return the section with a budget of tokens as `epochs`, each of `epoch_tokens` input tokens."""
        return self.model_copy(update={"epochs": self.tokens / epoch_tokens}) if self.tokens else self

    def generation(self, seed: int) -> GenerationConfig:
        return GenerationConfig(self.sample_tokens, self.sample_temperature, 0, self.sample_top_p, seed)


class SpamParams(Section):
    """Texts with classes of any kind; the section has its name from the first example."""

    text_column: Name
    label_column: Name
    split: Literal["grouped", "files", "book"]
    balance: Literal["none", "undersample"]
    val_fraction: Fraction
    test_fraction: Fraction

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> "SpamParams":
        return leaves_training_rows(self)


class InstructionsParams(Section):
    split: Literal["given", "grouped", "book"]
    val_fraction: Fraction
    test_fraction: Fraction

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> "InstructionsParams":
        return leaves_training_rows(self)


SplitSection = TypeVar("SplitSection", SpamParams, InstructionsParams)


def leaves_training_rows(section: SplitSection) -> SplitSection:
    total = section.val_fraction + section.test_fraction
    if total >= 1:
        raise ValueError(f"val_fraction + test_fraction must be below 1, got {total}; lower one")
    return section


class LoraParams(Section):
    rank: PositiveInt
    alpha: PositiveFloat
    scaling: Literal["alpha/rank", "alpha", "rslora"]
    dropout: Probability
    # linear layers of the base's blocks
    targets: Targets


class ClassifierParams(TrainingParams):
    trainable: Literal["lora", "last_block", "head", "all"]
    pooling: Literal["last_real", "last_position"]
    class_weights: Literal["none", "balanced"]
    max_tokens: PositiveInt  # longer texts are cut; at most the base's context
    dropout: Probability
    lora: LoraParams


class InstructParams(TrainingParams):
    trainable: Literal["lora", "all"]
    prompt: Literal["alpaca", "phi3", "template"]  # template is the base's own
    mask: Literal["none", "instruction", "instruction+input"]
    max_tokens: PositiveInt  # at most the base's context
    too_long: Literal["truncate", "drop"]
    packing: Bool
    dropout: Probability
    lora: LoraParams


class ComputeParams(Section):
    device: Literal["cpu", "cuda", "mps"]
    precision: Literal["fp32", "bf16", "auto"]
    numerics: Literal["portable", "native"]
    threads: Annotated[int, Field(strict=True, gt=0, le=MOST_THREADS)]  # numerics native
    determinism: Literal["strict", "warn", "off"]
    parallel: Literal["replicate", "shard"]
    activation_checkpointing: Bool
    compile: Bool

    @model_validator(mode="after")
    def _keeps_its_promises(self) -> "ComputeParams":
        problems = []
        if self.parallel == "shard" and self.device == "mps":
            problems.append("parallel must be replicate when device is mps, got 'shard'; correct either")
        if self.parallel == "shard" and self.numerics == "portable":
            rule = "must be native when parallel is shard: sums then depend on the number of processes"
            problems.append(f"numerics {rule}, got 'portable'; correct either")
        if self.compile and self.numerics == "portable":
            rule = "must be native when compile is true: compiled kernels round differently"
            problems.append(f"numerics {rule}, got 'portable'; correct either")
        if problems:
            raise ValueError("\n".join(problems))
        return self


class RuntimeParams(Section):
    """Changes no result, and so is no stage's param."""

    processes: Processes  # that compute a stage
    progress: Bool
    tracking: Bool
    checkpoint_interval_steps: PositiveInt
    checkpoint_interval_seconds: PositiveFloat
    checkpoints_kept: PositiveInt


class Params(Section):
    seed: Seed
    sources: SourcesParams
    weights: WeightsParams
    tokenizer: TokenizerParams
    sample: SampleParams
    model: ModelParams
    pretrain: PretrainParams
    spam: SpamParams
    instructions: InstructionsParams
    classifier: ClassifierParams
    evaluate_classifier: EvaluateClassifierParams
    instruct: InstructParams
    evaluate_instruct: EvaluateInstructParams
    compute: ComputeParams
    runtime: RuntimeParams

    @model_validator(mode="after")
    def _sections_fit(self) -> "Params":
        problems = []
        if self.sample.window_tokens > self.model.context_length:
            rule = f"must be at most model.context_length ({self.model.context_length})"
            problems.append(f"sample.window_tokens {rule}, got {self.sample.window_tokens}; lower it")
        if self.tokenizer.kind == "given" and self.sources.tokenizer.kind == "none":
            rule = "must name a vocabulary when tokenizer.kind is 'given', got 'none'"
            problems.append(f"sources.tokenizer.kind {rule}; set it to gpt2 or local")
        if self.spam.split == "files" and self.sources.spam.kind != "local":
            rule = "must be 'local' when spam.split is 'files'"
            problems.append(f"sources.spam.kind {rule}, got {self.sources.spam.kind!r}; correct either")
        names = self.sources.text.part_names
        if self.sample.weights and sorted(self.sample.weights) != sorted(names):
            rule = f"must name each part of sources.text.parts ({', '.join(names) or 'none'}) or be {{}}"
            problems.append(f"sample.weights {rule}, got {', '.join(self.sample.weights)}; correct either")
        parts = Path(self.weights.path).parts
        published = parts[len(RAW_WEIGHTS.parts)] if RAW_WEIGHTS in Path(self.weights.path).parents else None
        if published and published not in self.weights.download:
            rule = f"must name {published!r} when weights.path is {self.weights.path!r}"
            problems.append(f"weights.download {rule}, got {self.weights.download!r}; add it")
        if problems:
            raise ValueError("\n".join(problems))
        return self
