"""`llmcore plan`: what params.yaml will cost on this machine, and afterwards what it did."""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmcore.base.errors import UserError
from llmcore.base.process import usable_cores
from llmcore.run.gpus import GPUS, UTILISATION

if TYPE_CHECKING:
    from llmcore.config.params import Params
    from llmcore.dvc.status import StageStatus
    from llmcore.run.amounts import Amounts
    from llmcore.run.forecast import Forecast

Row = Sequence[str]

REASON_WIDTH = 60
LOCAL_KINDS = {"world", "none", "local"}  # of sources: nothing is downloaded
BUSY_LOAD = 0.5  # of a core, on average over the last minute: what is measured now is slower than on a quiet machine


def add_plan(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    plan = commands.add_parser("plan", help="say what dvc repro would run, how long it takes, and what it needs")
    plan.add_argument("--gpu", choices=GPUS, help="estimate the trainings on this GPU too, from its published peak")
    plan.add_argument("--check", action="store_true", help="show the last forecast beside the runs since then")
    plan.set_defaults(run=run_plan)


def run_plan(arguments: argparse.Namespace) -> None:
    print("\n".join(check_lines() if arguments.check else plan_lines(arguments.gpu)))


def plan_lines(gpu: str | None) -> Iterator[str]:
    """Measure, keep the forecast, and yield the lines of the plan."""
    from llmcore.config.read import read_params
    from llmcore.dvc.status import keeps_data
    from llmcore.run.amounts import amounts, sample_rows
    from llmcore.run.forecast import forecast
    from llmcore.run.measure import measure
    from llmcore.tracking.forecast import write_forecast

    params = read_params()
    stages = _stages()
    _say_begin()

    def holds(stage: str) -> bool:
        return stage in stages and keeps_data(stages, stage)

    data = amounts(params, holds)
    found = forecast(params, data, measure(sample_rows(params, holds)))
    write_forecast(found.seconds)
    yield from _data_lines(found, data)
    yield from _stage_lines(found, stages, params)
    yield from _training_lines(found)
    yield from _memory_lines(found)
    if gpu:
        yield from _gpu_lines(found, params, gpu)
    yield ""
    yield "After dvc repro, `llmcore plan --check` shows this forecast beside the runs."


def _say_begin() -> None:
    print("measuring a few steps of each training ...", file=sys.stderr, flush=True)
    cores = usable_cores()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY_LOAD * cores:
        print(f"this machine is busy (load {load:.1f} on {cores} cores): so will the times be", file=sys.stderr)


def _stages() -> "dict[str, StageStatus]":
    """Return DVC's view of the stages; without it the plan goes on, from params.yaml alone."""
    from llmcore.dvc.status import stage_status

    try:
        return stage_status(Path())
    except UserError as error:
        print(f"what dvc repro would run is not known ({error})", file=sys.stderr)
        return {}


def _data_lines(found: "Forecast", data: "Amounts") -> Iterator[str]:
    yield from _heading("Data")
    spam, instructions = (
        ", ".join(f"{rows[split]:,} {split}" for split in ("train", "val", "test"))
        for rows in (data.spam, data.instructions)
    )
    about = "" if data.tokens else "about "
    documents = "document" if data.documents == 1 else "documents"
    text = f"{about}{found.tokens:,} tokens in {data.documents:,} {documents}, {_bytes(data.text_bytes)}"
    yield from _table(
        [
            ("text", text, data.sources["text"]),
            *((f"  {name}", f"{count:,} tokens", "") for name, count in data.tokens_of_parts.items()),
            ("windows", f"{found.train_windows:,} train, {found.val_windows:,} val", ""),
            ("spam", f"rows: {spam}", data.sources["spam"]),
            ("instructions", f"rows: {instructions}", data.sources["instructions"]),
        ]
    )


def _stage_lines(found: "Forecast", stages: "dict[str, StageStatus]", params: "Params") -> Iterator[str]:
    from llmcore.dvc.status import runs_after

    yield from _heading("Stages, as dvc repro would run them")
    later = runs_after(stages)
    rows: list[Row] = []
    for name, stage in stages.items():
        runs = "runs" if stage.runs else "runs if an input changes" if name in later else "up to date"
        rows.append(
            (name, runs, _time(name, found, params), textwrap.shorten(stage.reason, REASON_WIDTH, placeholder=" ..."))
        )
    yield from _table(rows or [(name, "", _seconds(seconds), "") for name, seconds in found.seconds.items()])
    wanted = [name for name in found.seconds if not stages or stages[name].runs or name in later]
    total = sum(found.seconds[name] + found.starting[name] for name in wanted)
    if missing := {"finetune_classifier", "finetune_instruct"} - found.seconds.keys():
        yield f"  {', '.join(sorted(missing))}: not known before the base, {params.weights.path}, is there"
    yield f"  those with a time that run, with the start of their processes: {_seconds(total)}; DVC's own work on top"


def _time(stage: str, found: "Forecast", params: "Params") -> str:
    """Return the time of a stage; in words where it was not measured."""
    from llmcore.run.launch import EVALUATIONS, TRAININGS

    name, _, item = stage.partition("@")
    if stage in found.seconds:
        return _seconds(found.seconds[stage])
    if stage in (*TRAININGS, *EVALUATIONS):
        return "not known"
    if name == "download":
        source = getattr(params.sources, item)
        kinds = [part.kind for part in source.parts] if source.kind == "mixture" else [source.kind]
        return "short" if set(kinds) <= LOCAL_KINDS else "network"
    return "network" if name == "download_weights" else "short"


def _training_lines(found: "Forecast") -> Iterator[str]:
    yield from _heading("Trainings")
    rows: list[Row] = [("", "parameters", "trained", "steps", "tokens seen", "FLOPs", "a step", "processes", "FLOP/s")]
    for stage, training in found.trainings.items():
        figures = found.figures[stage]
        rows.append(
            (
                stage,
                f"{figures['parameters']:,.0f}",
                f"{figures['trained_parameters']:,.0f}",
                f"{training.steps:,}",
                f"{training.tokens:,}",
                f"{training.flops:.2g}",
                f"{training.step_seconds * 1000:.0f} ms",
                str(training.processes),
                f"{training.flops / training.steps / training.step_seconds:.2g}",
            )
        )
    yield from _table(rows)


def _memory_lines(found: "Forecast") -> Iterator[str]:
    yield from _heading("Memory of each process, beside about 0.5 GB of interpreter and libraries; disk")
    rows: list[Row] = [("", "weights", "gradients", "optimizer", "activations of a micro-batch", "sum")]
    for stage, training in found.trainings.items():
        parts = list(training.memory.values())
        rows.append((stage, *map(_bytes, parts), _bytes(sum(parts))))
    yield from _table(rows)
    disk = ", ".join(f"{name} {_bytes(size)}" for name, size in found.disk.items())
    yield f"  data stay on disk, memory-mapped; disk: {disk}; free: {_bytes(shutil.disk_usage('.').free)}"


def _gpu_lines(found: "Forecast", params: "Params", name: str) -> Iterator[str]:
    """An estimate, and called one: nothing of it was measured on such a device."""
    from llmcore.run.forecast import gpu_seconds
    from llmcore.run.launch import TRAININGS

    gpu = GPUS[name]
    yield from _heading(f"Estimate for one {gpu.name}, not measured")
    rows: list[Row] = [("", "fp32", "bf16", "memory in fp32")]
    for stage, training in found.trainings.items():
        section, n_layer = getattr(params, TRAININGS[stage]), int(found.figures[stage]["n_layer"])
        times = [
            gpu_seconds(gpu, training, section, n_layer=n_layer, precision=precision) for precision in ("fp32", "bf16")
        ]
        needed = sum(training.memory.values())
        fits = "fits" if needed < gpu.memory_gb * 1e9 else "does not fit: smaller micro_batch_size, or LoRA"
        rows.append((stage, *map(_seconds, times), f"{_bytes(needed)}, {fits}"))
    yield from _table(rows)
    shares = " and ".join(f"{share:.0%} of the peak in {precision}" for precision, share in UTILISATION.items())
    yield f"  steps alone, without evaluations; assumed: {shares}, but at least what launching kernels"
    yield "  takes, as on one H100; that is most of it for a small model; bf16 keeps about half of the activations"
    yield f"  peaks: {gpu.fp32_tflops:g} TFLOPS in fp32, {gpu.bf16_tflops:g} in bf16 ({gpu.source})"


def check_lines() -> Iterator[str]:
    """Yield the last forecast beside the runs since then; UserError if there is none."""
    from llmcore.lineage.runs import open_runs
    from llmcore.tracking.forecast import forecast_file, params_hash, read_forecast

    kept = read_forecast()
    if kept is None:
        raise UserError(f"{forecast_file()}: holds no forecast yet; run `llmcore plan` before `dvc repro`")
    if kept.params != params_hash():
        yield "params.yaml has changed since the forecast"
    runs = open_runs()
    if isinstance(runs, str):
        raise UserError(f"the actual figures come from MLflow, and there are {runs}; run `dvc repro`")
    rows: list[Row] = [("", "forecast", "actual", "actual / forecast")]
    for stage, seconds in kept.seconds.items():
        run = runs.newest_of(stage)
        if run is None or run.seconds is None or run.started.timestamp() < kept.made:
            rows.append((stage, _seconds(seconds), "not run since", ""))
        else:
            rows.append((stage, _seconds(seconds), _seconds(run.seconds), f"{run.seconds / seconds:.2f}"))
    yield from _table(rows)


def _heading(title: str) -> list[str]:
    return ["", title, "-" * len(title)]


def _table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield rows in columns, indented."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield ("  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))).rstrip()


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
