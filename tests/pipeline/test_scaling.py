"""`make scaling` on a small grid: experiments by DVC's queue, results in reports/, nothing trained twice."""

from pathlib import Path

import pytest
from workspace import SMALL, Workspace

SWEEP = "python -m llmcore.run.scaling --stories 300 --sizes 1x8x2 1x16x2 2x16x2 --tokens 4000 8000 --jobs 2"
RESULTS = ("reports/scaling.md", "reports/scaling.csv", "reports/scaling.png")

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A project in which nothing was built before the sweep."""
    workspace = Workspace(tmp_path_factory.mktemp("scaling"))
    workspace.set_params(SMALL)
    workspace.run("git add -A && git commit -qm small")
    workspace.run(SWEEP)
    return workspace


def experiments(workspace: Workspace) -> dict[str, str]:
    """Return the commit of each experiment, by name."""
    listed = workspace.run("git for-each-ref --format='%(refname:lstrip=4) %(objectname)' refs/exps")
    return dict(line.split() for line in listed.splitlines() if "scaling" in line)


def test_every_pair_is_an_experiment_and_a_point(swept: Workspace) -> None:
    points = (swept.folder / "reports/scaling.csv").read_text().splitlines()
    assert len(points) == 1 + 6
    assert len(experiments(swept)) == 6 + 1  # and the text
    assert "lies " in (swept.folder / "reports/scaling.md").read_text()
    assert (swept.folder / "reports/scaling.png").stat().st_size > 10_000


def test_workspace_stays_as_it_is(swept: Workspace) -> None:
    changed = swept.run("git status --porcelain").split()[1::2]
    assert sorted(changed) == sorted(RESULTS)


def test_second_call_trains_nothing_and_writes_the_same_bytes(swept: Workspace) -> None:
    before = experiments(swept), swept.hashes(*RESULTS), swept.run("dvc queue status")
    swept.run(SWEEP)
    assert (experiments(swept), swept.hashes(*RESULTS), swept.run("dvc queue status")) == before


def test_what_failed_is_named_with_the_way_to_its_log(swept: Workspace) -> None:
    printed = swept.run(f"{SWEEP.replace('2x16x2', '1x2000000x2')}", code=2)
    head = swept.run("git rev-parse --short HEAD").strip()
    name = f"scaling-1x2000000x2-8000-of-300-{head}"
    assert f"{name}, scaling-1x2000000x2-4000-of-300-{head}: must have a result" in printed
    assert "model.n_embd" in swept.run(f"dvc queue logs {name}")


def test_uncommitted_code_and_data_seen_twice_are_refused(swept: Workspace) -> None:
    assert "must be at most" in swept.run(SWEEP.replace("8000", "8000000"), code=2)
    params = Path(swept.folder, "params.yaml")
    swept.set_params(SMALL | {"pretrain.lr": 0.5})
    assert "error: params.yaml: must be committed" in swept.run(SWEEP, code=2)
    assert "0.5" in params.read_text()
