"""The pages that `make ui` opens, looked at in a real browser: runs side by side, differences, links.

Screenshots go to the folder named by LLMCORE_SCREENSHOTS, if it is set.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from browser import Page, browsing, chromium
from structure import ROOT

from llmcore.config.params import Params
from llmcore.config.read import read_params
from llmcore.report.figures import loss_curves
from llmcore.tracking.mlflow_store import open_store
from llmcore.tracking.run import tracked_run
from llmcore.tracking.tracker import OtherRun

pytestmark = [pytest.mark.exhaustive, pytest.mark.ui]
needs_chromium = pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")

SENTENCE = "A model of 883,456 parameters after 40 steps"
RATES = (0.001, 0.002, 0.004)
STEPS = 40


def pretrain(params: Params, lr: float) -> None:
    """Record a training as `stages/pretrain.py` does, with made-up curves."""
    section = params.pretrain.model_copy(update={"lr": lr})
    with tracked_run("pretrain", params.model_copy(update={"pretrain": section})) as tracker:
        tracker.log_input("tokens", "data/tokens", "c" * 64)
        losses = [6 / (1 + step * lr * 100) for step in range(1, STEPS + 1)]
        for step, loss in enumerate(losses, start=1):
            tracker.log_metrics({"train/loss": loss, "train/lr": lr}, step=step)
        tracker.log_metrics({"val/loss": losses[-1]}, step=STEPS)
        tracker.log_artifact(f"samples/step-{STEPS:06d}.txt", "Mia and Tom had a red ball.")
        tracker.log_metrics({"parameters": 883456, "best_step": STEPS, "val/loss": 0.5, "val/nats_per_byte": 0.2})
        tracker.set_tags({"model_sha256": f"weights of {lr}", "out.models/pretrain": f"{lr}.dir"})


def ledger(params: Params, lr: float, folder: Path) -> None:
    """Record the ledger over the training with `lr`, with a picture of it, as `stages/track.py` does."""
    with tracked_run("track", params) as tracker:
        tracker.log_metrics({"pretrain/val/nats_per_byte": 0.2, "evaluate_classifier/accuracy": 0.96})
        tracker.set_tags({"in.models/pretrain": f"{lr}.dir"})
        steps = [{"step": step, "train/loss": 6 / step} for step in range(1, STEPS + 1)]
        loss_curves(folder / "loss.png", steps, [{"step": STEPS, "val/loss": 6 / STEPS}])
        made_by = OtherRun("pretrain", "out.models/pretrain", f"{lr}.dir")
        tracker.log_artifact("figures/loss.png", folder / "loss.png", run=made_by)


def commit(folder: Path) -> None:
    """Make the folder a repository with params.yaml in it: names of runs tell what differs from the last commit."""
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for arguments in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "start"]):
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    """`make ui` over a store with three pretrainings and a ledger row."""
    folder = tmp_path_factory.mktemp("ui")
    hidden = ("MLFLOW_", "DVC_", "LLMCORE_T")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(hidden)]:
            patch.delenv(name)
        patch.setenv("DVC_ROOT", str(folder))
        patch.chdir(folder)
        params = read_params(shutil.copy(ROOT / "params.yaml", folder))
        commit(folder)
        for lr in RATES:
            pretrain(params, lr)
        ledger(params, RATES[-1], folder)
        command = [sys.executable, "-m", "llmcore.tracking.ui"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()  # killed, it would leave MLflow's server behind
            process.wait(30)


@pytest.fixture(scope="module")
def served(server: "subprocess.Popen[str]") -> str:
    """The link that it prints."""
    assert server.stdout
    return next(match[0] for line in server.stdout if (match := re.search(r"http://\S+", line)))


@pytest.fixture(scope="module")
def runs(served: str) -> dict[str, tuple[str, str]]:
    """Experiment and id of each run: the trainings by learning rate, and the ledger's row."""
    client = open_store().client
    found = {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            key = run.data.params["pretrain.lr"] if experiment.name == "pretrain" else "ledger"
            found[key] = (experiment.experiment_id, run.info.run_id)
    return found


async def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("LLMCORE_SCREENSHOTS"):
        await page.screenshot(Path(folder, f"{name}.png"))


def test_server_takes_less_than_a_gigabyte(served: str, server: "subprocess.Popen[str]") -> None:
    process = psutil.Process(server.pid)
    assert sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) < 1e9


@needs_chromium
def test_link_shows_trainings_side_by_side(served: str) -> None:
    async def look() -> None:
        async with browsing() as page:
            await page.open(served)
            await page.wait_for_text("3 matching runs", "train/loss", "val/loss", "train/lr")
            await page.wait_for("document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line').length >= 6")
            names = set(re.findall(r"^(lr=[\d.]+ )?pretrain-[0-9a-f]{8}$", await page.text(), re.MULTILINE))
            assert names == {"lr=0.001 ", "lr=0.002 ", ""}  # the third has the committed one
            await shot(page, "side-by-side")

    asyncio.run(look())


@needs_chromium
def test_compare_shows_only_the_params_that_differ(served: str, runs: dict[str, tuple[str, str]]) -> None:
    async def look() -> None:
        ids = ",".join(f"%22{runs[str(lr)][1]}%22" for lr in RATES)
        url = f"{served.partition('#')[0]}#/compare-runs?runs=[{ids}]&experiments=[%22{runs['0.001'][0]}%22]"
        async with browsing() as page:
            await page.open(f"{url}&workflowType=machine_learning")
            await page.wait_for_text("pretrain.batch_size", "Show diff only")
            await page.value("document.querySelector('[role=switch]').click()")  # that of the params
            await page.wait_for("!document.body.innerText.includes('pretrain.batch_size')")
            shown = (await page.text()).partition("Show diff only")[2].partition("Metrics")[0]
            assert re.findall(r"^[\w.]+\b", shown, re.MULTILINE) == ["pretrain.lr"]
            assert all(str(lr) in shown for lr in RATES)
            await shot(page, "compare")

    asyncio.run(look())


@needs_chromium
def test_run_shows_its_description_dataset_tags_figures_and_samples(
    served: str, runs: dict[str, tuple[str, str]]
) -> None:
    experiment, run_id = runs["0.004"]

    async def look() -> None:
        url = f"{served.partition('#')[0]}#/experiments/{experiment}/runs/{run_id}"
        async with browsing() as page:
            await page.open(f"{url}?workflowType=machine_learning")
            await page.wait_for_text(SENTENCE, "model_sha256", "tokens", "pretrain.lr")
            await shot(page, "run")
            await page.open(f"{url}/artifacts/figures/loss.png?workflowType=machine_learning")
            await page.wait_for("[...document.images].some(image => image.naturalWidth > 400)")
            await shot(page, "figure")
            await page.open(f"{url}/artifacts/samples/step-000040.txt?workflowType=machine_learning")
            await page.wait_for_text("Mia and Tom had a red ball.")

    asyncio.run(look())


@needs_chromium
def test_ledger_links_to_its_training(served: str, runs: dict[str, tuple[str, str]]) -> None:
    async def look() -> None:
        experiment, run_id = runs["ledger"]
        async with browsing() as page:
            url = f"{served.partition('#')[0]}#/experiments/{experiment}/runs/{run_id}"
            await page.open(f"{url}?workflowType=machine_learning")
            await page.wait_for_text("Builds on")
            await shot(page, "ledger")
            link = f"a[href*='{runs['0.004'][1]}']"
            await page.open(await page.wait_for(f'document.querySelector("{link}")?.href'))
            await page.wait_for_text(SENTENCE)

    asyncio.run(look())
