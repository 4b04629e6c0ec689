"""The examples in docs/ci/ do on a pull request what they say, as far as no hosted service is needed."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pipeline.remotes import AWS, Team, team_on
from structure import ROOT
from workspace import Workspace

from llmcore.base.files import read_yaml

OWN_ACTIONS = {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}
TOKEN = "t0ken-of-a-comment"

# The services' programs only note their arguments; pip installs nothing, because everything is installed.
STUB = '#!/bin/sh\necho "$0 $@" >> "{calls}"\n'
PYTHON = '#!/bin/sh\n[ "$2" = pip ] || exec "{python}" "$@"\n'


def github(job: dict[str, Any], values: dict[str, str]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the variables and the script of each step, `${{ ... }}` replaced."""

    def filled(variables: dict[str, str]) -> dict[str, str]:
        return {
            key: re.sub(r"\$\{\{ (.+?) \}\}", lambda found: values[found[1]], text) for key, text in variables.items()
        }

    for step in job["steps"]:
        if "run" in step:
            yield filled(job["env"]) | filled(step.get("env", {})), step["run"]


def test_github_example_uses_only_githubs_own_actions_and_names_its_permissions() -> None:
    workflow = read_yaml(ROOT / "docs/ci/github.yml")
    used = {step["uses"].partition("@")[0] for step in workflow["jobs"]["results"]["steps"] if "uses" in step}
    assert used == OWN_ACTIONS
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert workflow["on"] == "pull_request"  # `pull_request_target` would give a fork's code the secrets


@pytest.fixture(scope="module")
def team(built: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with team_on("s3", built, tmp_path_factory.mktemp("ci")) as found:
        yield found


def pull_request(team: Team, name: str) -> tuple[Workspace, Path, str]:
    """Return a runner's clone with another rank of LoRA that nobody has built, the calls noted, and its PATH."""
    clone = team.clone(name)
    clone.run("git checkout -q -b rank")
    clone.set(classifier__lora__rank=4)
    clone.run("git commit -qam rank && python -m llmcore.report.plots_page")
    calls, programs = clone.folder.parent / f"{name}-calls", clone.folder / ".venv/bin"
    programs.mkdir(parents=True)
    (clone.folder / ".venv/installed").touch()
    for program in ("gh", "curl"):
        (programs / program).write_text(STUB.format(calls=calls))
    (programs / "python").write_text(PYTHON.format(python=sys.executable))
    for file in programs.iterdir():
        file.chmod(0o755)
    return clone, calls, f"{programs}:{clone.environment()['PATH']}"


def check_comment(clone: Workspace, call: str, base: str) -> None:
    """The comment has the changed param and metrics, the page both states; no secret is in it."""
    report = (clone.folder / "report.md").read_text()
    assert report.startswith(f"### Results against {base}\n\n[Plots](https://")
    assert re.search(r"^\| params.yaml +\| classifier.lora.rank +\| 16 +\| 4 ", report, re.MULTILINE)
    assert re.search(r"^\| reports/finetune_classifier/metrics.json +\| val/loss +\|", report, re.MULTILINE)
    assert "report.md" in call
    assert [secret for secret in (*AWS.values(), TOKEN) if secret in report] == []
    page = (clone.folder / "dvc_plots/index.html").read_text()
    assert "vegaEmbed" in page
    assert '"rev": "workspace"' in page


@pytest.mark.exhaustive
def test_github_example_comments_params_metrics_and_plots(team: Team) -> None:
    clone, calls, path = pull_request(team, "github")
    branch = team.first.run("git branch --show-current").strip()
    values = {
        "github.base_ref": branch,
        "github.event.pull_request.number": "7",
        "github.token": TOKEN,
        "steps.plots.outputs.artifact-url": "https://example.org/plots",
        **{f"secrets.{name}": value for name, value in AWS.items()},
    }
    job = read_yaml(ROOT / "docs/ci/github.yml")["jobs"]["results"]
    for variables, script in github(job, values):
        variables |= {"PATH": path, "GITHUB_PATH": str(calls)}
        printed = clone.run("bash -e", input=script, **variables)
        assert [secret for secret in AWS.values() if secret in printed] == []
    check_comment(clone, calls.read_text(), f"origin/{branch}")


@pytest.mark.exhaustive
def test_gitlab_example_comments_params_metrics_and_plots(team: Team) -> None:
    clone, calls, path = pull_request(team, "gitlab")
    base = team.first.run("git rev-parse HEAD").strip()
    job = read_yaml(ROOT / "docs/ci/gitlab.yml")["results"]
    given: dict[str, Any] = {
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": base,
        "CI_JOB_URL": "https://example.org/job",
        "CI_API_V4_URL": "https://example.org/api/v4",
        "CI_PROJECT_ID": "3",
        "CI_MERGE_REQUEST_IID": "7",
        "COMMENT_TOKEN": TOKEN,
        **AWS,
    }
    variables = [f'export {name}="{value}"' for name, value in job["variables"].items()]
    clone.run("bash -eo pipefail", input="\n".join([*variables, *job["script"]]), PATH=path, **given)
    check_comment(clone, calls.read_text(), base)
    assert "https://example.org/api/v4/projects/3/merge_requests/7/notes" in calls.read_text()
