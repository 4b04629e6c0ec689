"""The pages that `make ui` opens, looked at in a real browser: runs side by side, what differs, links.

Screenshots go to the folder named by LLMCORE_SCREENSHOTS, if it is set.
"""

import asyncio
import os
import re
import shutil
import signal
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
from llmcore.tracking import tracker as tracking
from llmcore.tracking.mlflow_store import open_store

pytestmark = [pytest.mark.ui, pytest.mark.skipif(chromium() is None, reason="no Chromium on this compute")]

SECTIONS = ["seed", "model", "pretrain", "compute"]
RATES = (0.001, 0.002, 0.004)
STEPS = 40


def pretrain(params: Params, lr: float, folder: Path) -> None:
    """Record a training as `stages/pretrain.py` does, with made-up curves."""
    section = params.pretrain.model_copy(update={"lr": lr})
    with tracking.run("pretrain", params.model_copy(update={"pretrain": section}), SECTIONS) as tracker:
        tracker.log_dataset("tokens", "data/tokens", "c" * 64)
        losses = [{"step": step, "loss_train": 6 / (1 + step * lr * 100)} for step in range(1, STEPS + 1)]
        for row in losses:
            tracker.log_metrics({"loss/train": row["loss_train"], "optim/lr": lr}, step=int(row["step"]))
        tracker.log_metrics({"loss/val": losses[-1]["loss_train"]}, step=STEPS)
        tracker.log_text("Mia and Tom had a red ball.", "samples/step-000040.txt")
        loss_curves(folder / "loss.png", losses, [{"step": STEPS, "loss_val": losses[-1]["loss_train"]}])
        tracker.log_artifact(folder / "loss.png", "figures")
        tracker.log_metrics({"parameters": 883456, "best_step": STEPS, "val_loss": 0.5, "val_nats_per_byte": 0.2})
        tracker.set_tags({"model_sha256": f"weights of {lr}"})


def commit(folder: Path) -> None:
    """Make the folder a repository with params.yaml in it: names of runs tell what differs from the last commit."""
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for arguments in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "start"]):
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store with three pretrainings and a ledger row, and `make ui` over it; the link that it prints."""
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
            pretrain(params, lr, folder)
        with tracking.run("track", params, SECTIONS) as tracker:
            tracker.log_metrics({"pretrain.val_nats_per_byte": 0.2, "evaluate_classifier.accuracy": 0.96})
            tracker.link_run("pretrain", "model_sha256", f"weights of {RATES[-1]}")
        command = [sys.executable, "-m", "llmcore.serve.ui"]
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
            assert process.stdout
            yield next(match[0] for line in process.stdout if (match := re.search(r"http://\S+", line)))
            server = psutil.Process(process.pid)
            resident = sum(each.memory_info().rss for each in [server, *server.children(recursive=True)])
            assert resident < 1e9
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def runs(served: str) -> dict[str, tuple[str, str]]:
    """Experiment and id of each run: the trainings by learning rate, and the ledger's row."""
    client, found = open_store().client, {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            key = run.data.params["pretrain.lr"] if experiment.name == "pretrain" else "ledger"
            found[key] = (experiment.experiment_id, run.info.run_id)
    return found


async def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("LLMCORE_SCREENSHOTS"):
        await page.screenshot(Path(folder, f"{name}.png"))


def test_the_link_shows_trainings_side_by_side(served: str) -> None:
    async def look() -> None:
        async with browsing() as page:
            await page.open(served)
            await page.wait_for_text("3 matching runs", "loss/train", "loss/val", "optim/lr")
            await page.wait_for("document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line').length >= 6")
            names = set(re.findall(r"^pretrain-[0-9a-f]{8}( lr=[\d.]+)?$", await page.text(), re.MULTILINE))
            assert names == {" lr=0.001", " lr=0.002", ""}  # the third has the committed one
            await shot(page, "side-by-side")

    asyncio.run(look())


def test_compare_shows_the_params_that_differ_and_no_other(served: str, runs: dict[str, tuple[str, str]]) -> None:
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


def test_a_run_shows_its_sentence_dataset_tags_figures_and_samples(
    served: str, runs: dict[str, tuple[str, str]]
) -> None:
    experiment, run_id = runs["0.004"]

    async def look() -> None:
        url = f"{served.partition('#')[0]}#/experiments/{experiment}/runs/{run_id}"
        async with browsing() as page:
            await page.open(f"{url}?workflowType=machine_learning")
            await page.wait_for_text(
                "A GPT of 883,456 parameters after 40 steps", "model_sha256", "tokens", "pretrain.lr"
            )
            await shot(page, "run")
            await page.open(f"{url}/artifacts/figures/loss.png?workflowType=machine_learning")
            await page.wait_for("[...document.images].some(image => image.naturalWidth > 400)")
            await shot(page, "figure")
            await page.open(f"{url}/artifacts/samples/step-000040.txt?workflowType=machine_learning")
            await page.wait_for_text("Mia and Tom had a red ball.")

    asyncio.run(look())


def test_the_ledger_links_to_its_training(served: str, runs: dict[str, tuple[str, str]]) -> None:
    async def look() -> None:
        experiment, run_id = runs["ledger"]
        async with browsing() as page:
            url = f"{served.partition('#')[0]}#/experiments/{experiment}/runs/{run_id}"
            await page.open(f"{url}?workflowType=machine_learning")
            await page.wait_for_text("Builds on")
            await shot(page, "ledger")
            link = f"a[href*='{runs['0.004'][1]}']"
            await page.open(await page.wait_for(f'document.querySelector("{link}")?.href'))
            await page.wait_for_text("A GPT of 883,456 parameters after 40 steps")

    asyncio.run(look())
