"""The schema of params.yaml: what it accepts, and the message for what it refuses."""

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.config.params import Params
from llmcore.config.read import RENAMED, check_params, read_params

COMMITTED = YAML(typ="safe").load((ROOT / "presets/quickstart.yaml").read_text(encoding="utf-8"))


def leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    """The values of a nested mapping by their dotted keys."""
    if not isinstance(values, dict):
        return {prefix: values}
    return {key: leaf for name in values for key, leaf in leaves(values[name], f"{prefix}.{name}".lstrip(".")).items()}


def changed(**changes: Any) -> dict[str, Any]:
    """The quickstart with some keys changed; `pretrain__lr=1` is the key `pretrain.lr`, REMOVED takes it away."""
    values = copy.deepcopy(COMMITTED)
    for key, value in changes.items():
        *sections, name = key.split("__")
        section = values
        for part in sections:
            section = section[part]
        if value is REMOVED:
            del section[name]
        else:
            section[name] = value
    return values


REMOVED = object()


def problems(values: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        check_params(values, "params.yaml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("params.yaml: ") for line in lines)
    return [line.removeprefix("params.yaml: ") for line in lines]


@pytest.mark.parametrize(
    "path", ["params.yaml", *sorted(f"presets/{p.name}" for p in (ROOT / "presets").glob("*.yaml"))]
)
def test_the_files_of_the_repository_are_valid(path: str) -> None:
    assert isinstance(read_params(ROOT / path), Params)


@pytest.mark.parametrize("key", leaves(COMMITTED))
def test_every_key_is_required_and_checked(key: str) -> None:
    """There are no default values, and null does not replace a number."""
    flat = key.replace(".", "__")
    assert problems(changed(**{flat: REMOVED})) == [f"{key} is missing; add it, e.g. from presets/quickstart.yaml"]
    [line] = problems(changed(**{flat: None}))
    assert re.fullmatch(rf"{re.escape(key)} must .+, got None; correct the value", line)


NUMBERS = {key: value for key, value in leaves(COMMITTED).items() if type(value) in (int, float)}


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_must_be_spelled_as_one(key: str) -> None:
    """A silent cast would turn "4" or `true` into a shape."""
    for value in (str(NUMBERS[key]), True):
        [line] = problems(changed(**{key.replace(".", "__"): value}))
        assert re.fullmatch(rf"{re.escape(key)} must be a valid .+, got {value!r}; correct the value", line)


RULES = [
    ("seed", -1, "must be greater than or equal to 0"),
    ("seed", 1.5, "must be a valid integer"),
    ("sources.text.kind", "web", "must be 'world', 'the-verdict', 'local' or 'mixture'"),
    ("sources.spam.kind", "web", "must be 'world', 'sms-spam' or 'local'"),
    ("sources.instructions.kind", "web", "must be 'world', 'book' or 'local'"),
    ("sources.tokenizer.kind", "bert", "must be 'none', 'gpt2' or 'local'"),
    ("sources.text.stories", 0, "must be greater than 0"),
    ("sources.text.path", "", "must have at least 1 character"),
    ("weights.path", 3, "must be a valid string"),
    ("weights.path", "models/$HOME", "must match pattern"),
    ("tokenizer.kind", "none", "must be 'trained' or 'given'"),
    ("tokenizer.vocab_size", 256, "must be greater than or equal to 257"),
    ("sample.window_tokens", 0, "must be greater than 0"),
    ("sample.stride_tokens", -1, "must be greater than 0"),
    ("sample.window_start", "words", "must be 'documents' or 'stride'"),
    ("sample.val_fraction", 0, "must be greater than or equal to 0.000001"),
    ("sample.val_fraction", 1, "must be less than or equal to 0.999999"),
    ("model.n_layer", 4.0, "must be a valid integer"),
    ("model.dropout", 1.0, "must be less than 1"),
    ("model.dropout", -0.1, "must be greater than or equal to 0"),
    ("model.kind", "bert", "must be 'gpt2' or 'llama'"),
    ("model.qkv_bias", 1, "must be a valid boolean"),
    ("model.tied_head", "yes", "must be a valid boolean"),
    ("pretrain.epochs", 0.0, "must be greater than 0"),
    ("pretrain.tokens", -1, "must be greater than or equal to 0"),
    ("pretrain.tokens", 0.5, "must be a valid integer"),
    ("pretrain.tokens", "1e9", "must be a valid integer"),
    ("pretrain.tokens", math.inf, "must be a valid integer"),
    ("pretrain.tokens", 1e16, "must be less than or equal to 1000000000000000"),
    ("pretrain.tokens", 10**16, "must be less than or equal to 1000000000000000"),
    ("pretrain.lr", "fast", "must be a valid number"),
    ("pretrain.lr", float("inf"), "must be a finite number"),
    ("pretrain.grad_clip", float("nan"), "must be"),
    ("pretrain.warmup_steps", -1, "must be greater than or equal to 0"),
    ("pretrain.weight_decay", -0.1, "must be greater than or equal to 0"),
    ("pretrain.beta2", 1.0, "must be less than 1"),
    ("pretrain.eval_interval_steps", 0, "must be greater than 0"),
    ("pretrain.sample_top_p", 0.0, "must be greater than 0"),
    ("pretrain.sample_top_p", 1.1, "must be less than or equal to 1"),
    ("pretrain.sample_prompt", 5, "must be a valid string"),
    ("spam.split", "random", "must be 'grouped', 'files' or 'book'"),
    ("spam.balance", "oversample", "must be 'none' or 'undersample'"),
    ("instructions.split", "random", "must be 'given', 'grouped' or 'book'"),
    ("classifier.trainable", "some", "must be 'lora', 'last_block', 'head' or 'all'"),
    ("classifier.pooling", "mean", "must be 'last_real' or 'last_position'"),
    ("classifier.lora.rank", 0, "must be greater than 0"),
    ("classifier.lora.targets", [], "must be 'all-linear' or a valid list of names"),
    ("classifier.lora.targets", "attn.c_attn", "must be 'all-linear' or a valid list of names"),
    ("instruct.trainable", "head", "must be 'lora' or 'all'"),
    ("instruct.mask", "input", "must be 'none', 'instruction' or 'instruction+input'"),
    ("evaluate_classifier.confidence", 1.0, "must be less than or equal to 0.999999"),
    ("compute.threads", 100_000, "must be less than or equal to 1024"),
    ("model.n_embd", 4 * 10**9, "must be less than or equal to 1000000"),
    ("tokenizer.vocab_size", 10**30, "must be less than or equal to 1000000"),
    ("sources.spam.rows", 10**20, "must be less than or equal to 1000000000"),
    ("pretrain.lr", 1e300, "must be less than or equal to 1000000000"),
    ("pretrain.epochs", 1e300, "must be less than or equal to 1000000000"),
    ("pretrain.warmup_steps", int("9" * 400), "must be less than or equal to 1000000000"),
    ("pretrain.sample_prompt", "\ud800", "must be valid Unicode"),
    ("evaluate_instruct.min_p", 1.5, "must be less than or equal to 1"),
    ("evaluate_instruct.repetition_penalty", 0.0, "must be greater than or equal to 0.1"),
    ("evaluate_instruct.length_penalty", 11.0, "must be less than or equal to 10"),
    ("evaluate_instruct.frequency_penalty", 2.5, "must be less than or equal to 2"),
    ("evaluate_instruct.num_beams", 65, "must be less than or equal to 64"),
    ("evaluate_instruct.top_k", -1, "must be greater than or equal to 0"),
    ("evaluate_instruct.temperature", -0.5, "must be greater than or equal to 0"),
    ("compute.device", "gpu", "must be 'cpu', 'cuda' or 'mps'"),
    ("compute.precision", "fp16", "must be 'fp32', 'bf16' or 'auto'"),
    ("compute.threads", 0, "must be greater than 0"),
    ("compute.numerics", "exact", "must be 'portable' or 'native'"),
    ("runtime.processes", 0, "must be 'auto' or a valid number from 1 to 1024"),
    ("runtime.processes", "all", "must be 'auto' or a valid number from 1 to 1024"),
    ("compute.determinism", "yes", "must be 'strict', 'warn' or 'off'"),
    ("compute.parallel", "fsdp", "must be 'replicate' or 'shard'"),
    ("compute.compile", "yes", "must be a valid boolean"),
    ("runtime.progress", 0, "must be a valid boolean"),
]


def test_a_budget_may_be_written_with_an_exponent() -> None:
    tokens = check_params(changed(pretrain__tokens=1e9), "params.yaml").pretrain.tokens
    assert (tokens, type(tokens)) == (10**9, int)


@pytest.mark.parametrize(("key", "value", "rule"), RULES)
def test_a_rule_names_key_and_value_in_one_line(key: str, value: Any, rule: str) -> None:
    [line] = problems(changed(**{key.replace(".", "__"): value}))
    assert line.startswith(f"{key} {rule}")
    assert line.endswith(f", got {value!r}; correct the value")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"model__n_embd": 130, "model__n_head": 4},
            "model.n_embd must be a multiple of n_head (4), got 130; correct either",
        ),
        (
            {"pretrain__batch_size": 32, "pretrain__micro_batch_size": 5},
            "pretrain.micro_batch_size must be batch_size (32) divided by a power of two, got 5; correct either",
        ),
        (
            {"instruct__batch_size": 24, "instruct__micro_batch_size": 8},
            "instruct.micro_batch_size must be batch_size (24) divided by a power of two, got 8; correct either",
        ),
        (
            {"compute__parallel": "shard"},
            "compute.numerics must be native when parallel is shard: sums then depend on the number of processes, "
            "got 'portable'; correct either",
        ),
        (
            {"compute__parallel": "shard", "compute__numerics": "native", "compute__device": "mps"},
            "compute.parallel must be replicate when device is mps, got 'shard'; correct either",
        ),
        (
            {"compute__compile": True},
            "compute.numerics must be native when compile is true: compiled kernels round differently, "
            "got 'portable'; correct either",
        ),
        (
            {"instruct__lr": 0.001, "instruct__min_lr": 1.0},
            "instruct.min_lr must be at most lr (0.001), got 1.0; lower it",
        ),
        (
            {"evaluate_instruct__num_beams": 4, "evaluate_instruct__temperature": 0.5},
            "evaluate_instruct.temperature must be 0 when num_beams is above 1, got 0.5; correct either",
        ),
        (
            {"spam__val_fraction": 0.1, "spam__test_fraction": 0.9},
            "spam.val_fraction + test_fraction must be below 1, got 1.0; lower one",
        ),
        (
            {"instructions__val_fraction": 0.9, "instructions__test_fraction": 0.1},
            "instructions.val_fraction + test_fraction must be below 1, got 1.0; lower one",
        ),
        (
            {"sample__window_tokens": 129, "model__context_length": 128},
            "sample.window_tokens must be at most model.context_length (128), got 129; lower it",
        ),
        (
            {"tokenizer__kind": "given", "sources__tokenizer__kind": "none"},
            "sources.tokenizer.kind must name a vocabulary when tokenizer.kind is 'given', got 'none'; "
            "set it to gpt2 or local",
        ),
        (
            {"weights__download": ["gpt2"], "weights__path": "data/raw/weights/smollm2-135m-instruct-q4/model.gguf"},
            "weights.download must name 'smollm2-135m-instruct-q4' when weights.path is "
            "'data/raw/weights/smollm2-135m-instruct-q4/model.gguf', got ['gpt2']; add it",
        ),
        (
            {"spam__split": "files", "sources__spam__kind": "world"},
            "sources.spam.kind must be 'local' when spam.split is 'files', got 'world'; correct either",
        ),
        (
            {"weights__download": ["gpt2", "gpt3"]},
            "weights.download.1 must be 'gpt2', 'gpt2-medium', 'gpt2-large', 'gpt2-xl', 'smollm2-135m', "
            "'smollm2-135m-instruct', 'smollm2-135m-instruct-q4', 'smollm2-360m' or 'qwen3-0.6b', got 'gpt3'; "
            "correct the value",
        ),
        ({"model": 3}, "model must be a mapping of keys, got 3; correct it, e.g. from presets/quickstart.yaml"),
        ({"model": REMOVED}, "model is missing; add it, e.g. from presets/quickstart.yaml"),
    ],
)
def test_rules_between_keys(changes: dict[str, Any], line: str) -> None:
    assert problems(changed(**changes)) == [line]


@pytest.mark.parametrize("path", ["", "/SmolLM2-135M-Instruct.Q4_1.gguf"])
def test_downloaded_weights_are_a_folder_or_the_file_in_it(path: str) -> None:
    name = "smollm2-135m-instruct-q4"
    path = f"data/raw/weights/{name}{path}"
    assert check_params(changed(weights__download=[name], weights__path=path), "params.yaml").weights.path == path


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"pretrain__learning_rate": 1}, "pretrain.learning_rate is not a known key; remove or rename it"),
        ({"pretrain__warm_up_steps": 1}, "pretrain.warm_up_steps is not a known key (did you mean warmup_steps?); "),
        ({"classifier__lora__ranks": 1}, "classifier.lora.ranks is not a known key (did you mean rank?); "),
        ({"modle": {}}, "modle is not a known key (did you mean model?); "),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known(changes: dict[str, Any], line: str) -> None:
    [found] = problems(changed(**changes))
    assert found.startswith(line)


@pytest.mark.parametrize(("section", "old"), RENAMED)
def test_an_old_key_is_an_error_that_gives_the_new_name(section: str, old: str) -> None:
    new = RENAMED[section, old]
    path = section.replace(".", "__")
    value = leaves(COMMITTED)[f"{section}.{new}"]
    assert problems(changed(**{f"{path}__{old}": value, f"{path}__{new}": REMOVED})) == [
        f"{section}.{new} is missing; add it, e.g. from presets/quickstart.yaml",
        f"{section}.{old} is now called {section}.{new}; rename it",
    ]
    assert problems(changed(**{f"{path}__{old}": value}))[-1].endswith(f"is now called {section}.{new}; rename it")


def test_the_heads_of_a_llama_must_fit() -> None:
    problem = "model.n_kv_head must divide n_head (4), got 3; correct either"
    assert problems(changed(model__kind="llama", model__n_kv_head=3)) == [problem]
    assert problems(changed(model__kind="llama", model__n_embd=12)) == [
        "model.n_embd must give each of n_head (4) heads an even number of features, got 12; correct either"
    ]
    check_params(changed(model__n_kv_head=3))  # kind gpt2 has none


def test_lora_targets_are_names_that_the_architecture_checks() -> None:
    """The schema does not know the layers of a model; `apply_lora` refuses a name that none has."""
    params = check_params(changed(classifier__lora__targets=["self_attn.q_proj"]))
    assert params.classifier.lora.targets == ["self_attn.q_proj"]
    [line] = problems(changed(classifier__lora__targets=[""]))
    assert line.startswith(
        "classifier.lora.targets must be 'all-linear' or a valid list of names of linear layers, got"
    )


def test_all_problems_are_reported_at_once() -> None:
    lines = problems(
        changed(
            seed=-1,
            model__n_embd=130,
            model__n_layer=REMOVED,
            pretrain__batch_size=33,
            pretrain__micro_batch_size=32,
            pretrain__lr=0.1,
            pretrain__min_lr=1.0,
            spam__balanse="none",
        )
    )
    keys = [line.split()[0] for line in lines]
    assert keys == ["seed", "model.n_layer", "pretrain.micro_batch_size", "pretrain.min_lr", "spam.balanse"]


def test_rules_between_sections_are_reported_at_once() -> None:
    unfit = {"sample__window_tokens": 10**6, "tokenizer__kind": "given", "sources__tokenizer__kind": "none"}
    lines = problems(changed(**unfit))
    assert [line.split()[0] for line in lines] == ["sample.window_tokens", "sources.tokenizer.kind"]


def written(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def quickstart_with(key: str, spelling: str) -> str:
    """The quickstart's text with another spelling of the first `key`'s value."""
    text = (ROOT / "presets/quickstart.yaml").read_text(encoding="utf-8")
    changed, count = re.subn(rf"^( +{key}:) \S+", rf"\1 {spelling}", text, count=1, flags=re.MULTILINE)
    assert count
    return changed


@pytest.mark.parametrize("spelling", ["3e-3", "3.0e-3", "0.003", "3E-3"])
def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path, spelling: str) -> None:
    """YAML 1.1 readers take 3e-3 for a string."""
    path = written(tmp_path, quickstart_with("lr", spelling))
    assert read_params(path).pretrain.lr == 0.003


def test_whole_numbers_are_numbers(tmp_path: Path) -> None:
    params = check_params(changed(pretrain__epochs=3, classifier__lora__alpha=32))
    assert (params.pretrain.epochs, type(params.pretrain.epochs)) == (3.0, float)


@pytest.mark.parametrize("user", ["user:pass@word", "token"])
def test_an_address_with_a_password_is_refused_and_not_repeated(user: str) -> None:
    """params.yaml is in git, and the tracker keeps it."""
    [line] = problems(changed(evaluate_instruct__judge__url=f"https://{user}@judge.example.org/v1"))
    assert line == (
        "evaluate_instruct.judge.url must hold no user or password, got 'https://***@judge.example.org/v1'; "
        "take them out and set LLMCORE_JUDGE_KEY"
    )


def test_on_is_a_string_and_not_a_boolean(tmp_path: Path) -> None:
    path = written(tmp_path, quickstart_with("tracking", "on"))
    with pytest.raises(UserError, match=r"runtime.tracking must be a valid boolean, got 'on'"):
        read_params(path)


@pytest.mark.parametrize("text", ["seed: [1", "a: b: c", "seed: 1\nseed: 2", "\tseed: 1"])
def test_broken_yaml_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"params.yaml: not valid YAML \(.+\); correct it$") as caught:
        read_params(written(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "kind"), [("", "NoneType"), ("- 1", "list"), ("words", "str")])
def test_yaml_without_sections_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    with pytest.raises(UserError, match=f"params.yaml: must be a mapping of sections, got {kind}; start from a preset"):
        read_params(written(tmp_path, text))


def test_yaml_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"seed: \xff")
    with pytest.raises(UserError, match=r"params.yaml: not valid YAML"):
        read_params(tmp_path / "params.yaml")


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params.yaml: no such file; run from the repository's root"):
        read_params(tmp_path / "params.yaml")


def test_params_cannot_be_changed() -> None:
    params = check_params(COMMITTED)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 3


# ---- mixtures


def world_part(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "kind": "world", "stories": 10, "seed": 1} | changes


def mixture(parts: list[Any], weights: Any = None) -> dict[str, Any]:
    return changed(sources__text__kind="mixture", sources__text__parts=parts, sample__weights=weights or {})


def test_a_part_has_the_keys_of_its_kind() -> None:
    parts = [
        world_part("stories"),
        {"name": "book", "kind": "the-verdict"},
        {"name": "own-1", "kind": "local", "files": "**/*", "text_column": "text"},
    ]
    params = check_params(mixture(parts, {"own-1": 2, "book": 0.5, "stories": 1}))
    assert params.sources.text.part_names == ["stories", "book", "own-1"]
    assert params.sample.weights["own-1"] == 2.0


PARTS = [
    ([], " must have at least one source when kind is 'mixture', got []; add one"),
    ([world_part("a"), world_part("b"), world_part("a")], " must have a name each, got 'a' twice; rename one"),
    ([world_part("size")], " must not be called 'size', a word that DVC ignores; rename it"),
    ([world_part("a/b")], ".0.name must match pattern '^[A-Za-z0-9][A-Za-z0-9_-]*$', got 'a/b'; correct the value"),
    ([world_part("a", files="*")], ".0.files is not a known key; remove or rename it"),
    ([world_part("a", stories=0)], ".0.stories must be greater than 0, got 0; correct the value"),
    ([{"name": "a"}], ".0.kind is missing; add it"),
    (
        [world_part("a", kind="x")],
        ".0.kind must be one of 'world', 'the-verdict', 'local', got 'x'; correct the value",
    ),
    (["a"], ".0 must be a mapping of keys, got 'a'; correct it, e.g. from presets/quickstart.yaml"),
]


@pytest.mark.parametrize(("parts", "message"), PARTS)
def test_parts_that_make_no_mixture_are_refused(parts: list[Any], message: str) -> None:
    assert problems(mixture(parts)) == [f"sources.text.parts{message}"]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1}, " must name each part of sources.text.parts (a, b) or be {}, got a; correct either"),
        (
            {"a": 1, "b": 1, "c": 1},
            " must name each part of sources.text.parts (a, b) or be {}, got a, b, c; correct either",
        ),
        ({"a": 1, "b": 0}, ".b must be greater than 0, got 0; correct the value"),
        ({"a": 1, "b": True}, ".b must be a valid number, got True; correct the value"),
    ],
)
def test_weights_are_of_all_parts_and_positive(weights: Any, message: str) -> None:
    assert problems(mixture([world_part("a"), world_part("b")], weights)) == [f"sample.weights{message}"]


def test_weights_without_a_mixture_are_refused() -> None:
    expected = "sample.weights must name each part of sources.text.parts (none) or be {}, got a; correct either"
    assert problems(changed(sample__weights={"a": 1.0})) == [expected]
