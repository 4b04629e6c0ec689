"""What one clone has built and pushed, another gets and does not train: by git, and by S3, SSH or a folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline.remotes import AWS, Team, team_on
from workspace import Workspace

pytestmark = pytest.mark.slow

RESULTS = ("data", "models", "exports", "reports", "dvc.lock")


@pytest.fixture(scope="module")
def team(built: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A team on S3."""
    with team_on("s3", built, tmp_path_factory.mktemp("s3")) as found:
        yield found


def files_with(secret: str, folder: Path) -> list[Path]:
    """Return the files of a folder that contain a text, git's and DVC's own among them."""
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_second_clone_pulls_everything_from_s3_and_trains_nothing(team: Team) -> None:
    second = team.clone("second")
    printed = second.run("dvc pull --run-cache -v", **team.environment)
    assert second.repro() == []
    assert second.hashes(*RESULTS) == team.first.hashes(*RESULTS)
    assert second.run("git status --porcelain") == ""
    for secret in AWS.values():
        assert secret not in team.printed + printed
        assert files_with(secret, team.folder) == []


def test_keys_given_with_local_stay_out_of_git(team: Team) -> None:
    third = team.clone("third")
    names = dict(zip(("access_key_id", "secret_access_key"), AWS.values(), strict=True))
    for name, value in names.items():
        third.run(f"dvc remote modify --local storage {name} {value}")
    third.run("dvc pull reports/pretrain/tables")
    assert third.run("git status --porcelain --untracked-files=all") == ""
    for secret in AWS.values():
        assert files_with(secret, third.folder) == [third.folder / ".dvc/config.local"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["folder", "ssh"])
def test_second_clone_reproduces_from_a_folder_or_ssh_with_pull_alone(
    kind: str, built: Workspace, tmp_path: Path
) -> None:
    with team_on(kind, built, tmp_path) as team:
        second = team.clone("second")
        printed = second.run("dvc repro --pull", **team.environment)
    assert "Running stage" not in printed
    assert second.hashes(*RESULTS) == team.first.hashes(*RESULTS)


@pytest.mark.exhaustive
def test_experiment_goes_from_clone_to_clone(built: Workspace, tmp_path: Path) -> None:
    with team_on("folder", built, tmp_path) as team:
        first, second = team.first, team.clone("second")
        first.run("dvc exp run --name low-rank -S classifier.lora.rank=4")
        first.run("dvc exp push origin low-rank")
        assert "low-rank" in second.run("dvc exp list origin")
        second.run("dvc exp pull origin low-rank && dvc exp apply low-rank && dvc pull")
    assert "classifier.lora.rank" in second.run("dvc params diff")
    assert second.repro() == []
    assert second.hashes("models", "params.yaml") == first.hashes("models", "params.yaml")
