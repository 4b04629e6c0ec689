"""Tags that join a run with git and DVC."""

import subprocess

from tracking.stored import runs

from llmcore.base.git import git
from llmcore.tracking.provenance import git_tags
from llmcore.tracking.run import tracked_run


def test_git_state_is_tagged(project, params, git_identity):
    for arguments in ("init -q", "add params.yaml", "commit -qm c"):
        subprocess.run(["git", *arguments.split()], check=True, cwd=project)
    with tracked_run("pretrain", params):
        pass
    (run,) = runs()
    assert run.data.tags["mlflow.source.git.commit"] == git(project, "rev-parse", "HEAD").strip()
    assert run.data.tags["git.dirty"] == "false"
    (project / "params.yaml").write_text("seed: 124\n", encoding="utf-8")
    assert git_tags(project)["git.dirty"] == "true"


def test_without_git_there_are_no_tags(project):
    assert git_tags(project) == {}
