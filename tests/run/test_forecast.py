"""The forecast of `llmcore plan`: counts against what the loop and the data stages do, estimates by their formula."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from structure import ROOT
from tiny import CPU, language_task, tiny_gpt, training

from llmcore.base.files import write_json
from llmcore.commands.plan import _data_lines
from llmcore.config.params import Params
from llmcore.config.read import read_params
from llmcore.config.sources import LocalPart, TheVerdictPart, WorldPart
from llmcore.data.world.stories import write_stories
from llmcore.run.amounts import Amounts, amounts, sample_rows
from llmcore.run.forecast import Forecast, forecast, gpu_seconds
from llmcore.run.gpus import GPUS, LAUNCH_SECONDS_PER_BLOCK, UTILISATION
from llmcore.run.processes import processes_of_stages
from llmcore.train.history import History
from llmcore.train.loop import fit, total_steps

TRAINING = {
    "parameters": 1000,
    "trained_parameters": 1000,
    "n_layer": 2,
    "processes": 2,
    "step_seconds": 0.5,
    "step_tokens": 100.0,
    "step_flops": 6e5,
    "evaluation_seconds_per_row": 0.01,
    "weight_bytes": 4000,
    "gradient_bytes": 4000,
    "optimizer_bytes": 8000,
    "activation_bytes": 500,
    "checkpoint_bytes": 12000,
    "starting_seconds": 3.0,
}
FIGURES: dict[str, dict[str, float]] = {
    "pretrain": TRAINING | {"windows_per_token": 0.01},
    "tokenize": {
        "learning_seconds_per_byte": 1e-6,
        "encoding_seconds_per_byte": 1e-6,
        "tokens_per_byte": 0.25,
        "vocab_size": 500,
        "starting_seconds": 1.0,
    },
    "track": {"seconds": 2.0},
}


@pytest.fixture(scope="module")
def params() -> Params:
    return read_params(ROOT / "params.yaml")


def with_pretraining(params: Params, **changes: Any) -> Params:
    section = params.pretrain.model_copy(update=changes)
    return params.model_copy(update={"pretrain": section})


def with_text(params: Params, **changes: Any) -> Params:
    text = params.sources.text.model_copy(update=changes)
    return params.model_copy(update={"sources": params.sources.model_copy(update={"text": text})})


def data(**changes: Any) -> Amounts:
    rows = {"train": 30, "val": 5, "test": 5}
    numbers: dict[str, Any] = {"text_bytes": 4000, "documents": 10, "tokens": None, "tokens_of_parts": {}}
    windows = {"train_windows": 24, "epoch_tokens": None, "val_windows": 4}
    return Amounts(**numbers | windows | {"spam": rows, "instructions": rows, "sources": {}} | changes)


@pytest.fixture
def found(params: Params) -> Forecast:
    return forecast(with_pretraining(params, epochs=2.0, batch_size=4, eval_interval_steps=5), data(), FIGURES)


@pytest.mark.parametrize(("epochs", "interval"), [(2.0, 5), (2.0, 100), (0.5, 1), (1.3, 3)])
def test_steps_and_evaluations_are_those_of_the_loop(params: Params, epochs: float, interval: int) -> None:
    task = language_task(batch_size=4, micro_batch_size=4)
    history = History()
    fit(
        tiny_gpt(),
        task,
        training(epochs=epochs, eval_interval_steps=interval),
        seed=0,
        compute=CPU,
        callback=history,
    )
    changed = with_pretraining(params, epochs=epochs, batch_size=4, eval_interval_steps=interval)
    planned = forecast(changed, data(train_windows=len(task.train)), FIGURES).trainings["pretrain"]
    assert (planned.steps, planned.evaluations) == (len(history.steps), len(history.evaluations))


@pytest.mark.parametrize("tokens", [1, 333, 1234])
def test_a_token_budget_has_the_steps_of_the_loop(params: Params, tokens: int) -> None:
    task = language_task(batch_size=4, micro_batch_size=4)
    section = with_pretraining(params, tokens=tokens, batch_size=4)
    epoch_tokens = float(task.train.windows["count"].sum())
    steps = total_steps(task, section.pretrain.in_epochs(epoch_tokens).epochs)
    counted = data(train_windows=len(task.train), epoch_tokens=epoch_tokens)
    assert forecast(section, counted, FIGURES).trainings["pretrain"].steps == steps


def test_a_token_budget_before_the_data_goes_by_the_tokens_of_a_measured_step(params: Params) -> None:
    section = with_pretraining(params, tokens=2000, batch_size=4)
    assert forecast(section, data(), FIGURES).trainings["pretrain"].steps == 2000 / 100


def test_time_is_that_of_the_steps_the_evaluations_and_mlflow(found: Forecast) -> None:
    """12 steps of half a second, evaluations before the first, after 5, 10 and 12, of 4 windows each, 2 s of MLflow."""
    assert found.seconds["pretrain"] == pytest.approx(12 * 0.5 + 4 * 4 * 0.01 + 2.0)


def test_nothing_is_paid_for_mlflow_where_it_is_off(params: Params) -> None:
    off = params.model_copy(update={"runtime": params.runtime.model_copy(update={"tracking": False})})
    seconds = [forecast(each, data(), FIGURES).seconds["tokenize"] for each in (params, off)]
    assert seconds[0] - seconds[1] == pytest.approx(2.0)


def test_tokens_are_estimated_where_no_build_has_counted_them(params: Params) -> None:
    assert forecast(params, data(), FIGURES).tokens == 4000 * 0.25 + 9  # an end-of-text between ten documents
    assert forecast(params, data(tokens=777), FIGURES).tokens == 777


def test_stages_without_figures_have_no_forecast(found: Forecast) -> None:
    assert set(found.seconds) == {"pretrain", "tokenize"}


# ---- a GPU


def test_a_gpu_step_takes_its_operations_at_the_assumed_share_of_the_peak() -> None:
    flops = 1e15
    seconds = GPUS["h100"].step_seconds(flops, precision="bf16", n_layer=12, n_micro_batches=1)
    assert seconds == pytest.approx(flops / (989e12 * UTILISATION["bf16"]))


def test_a_small_step_takes_the_launches_of_its_kernels(params: Params, found: Forecast) -> None:
    section = with_pretraining(params, batch_size=4, micro_batch_size=2).pretrain
    seconds = gpu_seconds(GPUS["h100"], found.trainings["pretrain"], section, n_layer=2, precision="bf16")
    assert seconds == pytest.approx(12 * 2 * 2 * LAUNCH_SECONDS_PER_BLOCK)


# ---- amounts


def test_estimates_from_params_are_near_what_the_last_build_counted(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committed metrics are those of the committed params."""
    monkeypatch.chdir(ROOT)
    counted = amounts(params, lambda stage: True)
    estimated = amounts(params, lambda stage: False)
    assert counted.tokens
    assert estimated.tokens is None
    assert estimated.documents == counted.documents
    assert estimated.text_bytes == pytest.approx(counted.text_bytes, rel=0.02)
    assert estimated.spam == counted.spam
    for split, rows in counted.instructions.items():
        assert estimated.instructions[split] == pytest.approx(rows, rel=0.03)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_a_large_corpus_is_estimated_by_its_files_compressed_or_not(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = [f"{row} {story.text}" for row, story in enumerate(write_stories(6000, seed=1))]
    table = pyarrow.table({"text": texts})
    if suffix == ".parquet":
        pyarrow.parquet.write_table(table, "own.parquet")
    else:
        rows = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        with pyarrow.output_stream(f"own{suffix}") as file:  # compressed as the suffix says
            file.write(rows)
    own = with_text(params, kind="local", path=f"own{suffix}", text_column="text")
    found = amounts(own, lambda stage: False)
    assert found.documents == pytest.approx(len(texts), rel=0.15)
    assert found.text_bytes == pytest.approx(sum(map(len, texts)), rel=0.15)


def test_a_mixture_is_estimated_as_the_sum_of_its_parts(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/a.txt").write_text("one document")
    world = WorldPart(name="stories", kind="world", stories=50, seed=1)
    local = LocalPart(name="own", kind="local", files="*.txt", text_column="text")
    verdict = TheVerdictPart(name="book", kind="the-verdict")
    alone, mixed = (with_text(params, kind="mixture", path="own", parts=p) for p in ([world], [world, local, verdict]))
    stories, found = (amounts(params, lambda stage: False) for params in (alone, mixed))
    assert (stories.documents, found.documents) == (50, 52)
    assert found.text_bytes == stories.text_bytes + len("one document") + 20_479
    assert found.sources["text"].startswith("estimated from params; read from own; size as published")
    assert sample_rows(mixed, lambda stage: False).texts == ["one document"]


def test_a_built_mixture_has_the_tokens_of_each_part(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports/tokenize").mkdir(parents=True)
    counted = {"bytes": 900, "documents": 9, "tokens": 300, "source/a/tokens": 100, "source/b/tokens": 200}
    write_json("reports/tokenize/metrics.json", counted)
    parts = [WorldPart(name=name, kind="world", stories=50, seed=1) for name in ("a", "b")]
    built = amounts(with_text(params, kind="mixture", parts=parts), lambda stage: stage == "tokenize")
    assert built.tokens_of_parts == {"a": 100, "b": 200}
    lines = list(_data_lines(forecast(params, built, FIGURES), built))
    assert [line.split() for line in lines[4:6]] == [["a", "100", "tokens"], ["b", "200", "tokens"]]


def test_a_sample_without_data_on_disk_is_of_the_built_in_world(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sample = sample_rows(params, lambda stage: True)
    assert sample.tokenizer is None
    assert sum(map(len, sample.texts)) > 100_000
    assert {row["label"] for row in sample.labelled} == {"ham", "spam"}
    assert all(row["output"] for row in sample.instructions)


def test_fine_tuning_is_measured_only_with_a_base_that_is_here(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert "finetune_instruct" in processes_of_stages(params)
    elsewhere = params.model_copy(
        update={"weights": params.weights.model_copy(update={"path": "data/raw/weights/gpt2"})}
    )
    assert set(processes_of_stages(elsewhere)) == {"tokenize", "track", "pretrain"}
