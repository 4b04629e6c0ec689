"""`llmcore fsck`: damage that DVC does not detect is found, named, and repaired by building again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmcore.cli import main

PIPELINE = """
stages:
  folder:
    cmd: python -c "import os; os.makedirs('made'); [open(f'made/{n}', 'w').write(n * 99) for n in 'ab']"
    outs:
      - made
  file:
    cmd: python -c "open('file.txt', 'w').write('content')"
    outs:
      - file.txt
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    for command in ("git init -q", "dvc init -q", "dvc repro -q"):
        subprocess.run(command.split(), check=True, capture_output=True)
    return tmp_path


def damage(project: Path, content: str) -> Path:
    """Flip a bit of the object with this content and leave it write-protected, as DVC has it."""
    (found,) = [p for p in project.glob(".dvc/cache/files/md5/*/*") if p.read_bytes().decode().startswith(content)]
    data = bytearray(found.read_bytes())
    data[-1] ^= 1
    found.chmod(0o644)
    found.write_bytes(data)
    found.chmod(0o444)
    return found.relative_to(project)


def test_an_undamaged_cache_is_reported_as_such(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / ".dvc/cache/files/md5/ab").mkdir(exist_ok=True)
    (project / ".dvc/cache/files/md5/ab/leftover.tmp").write_text("of an interrupted write")
    assert main(["fsck"]) == 0
    assert "every object matches its hash" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "owner"), [("content", "file.txt of file"), ("aaa", "made/a of folder"), ("[{", "made of folder")]
)
def test_damage_is_named_with_its_outputs_and_repaired(
    project: Path, capsys: pytest.CaptureFixture[str], content: str, owner: str
) -> None:
    """DVC checks out the damaged bytes and reports that everything is up to date."""
    objects = {p: p.read_bytes() for p in project.glob(".dvc/cache/files/md5/*/*")}
    files = [project / name for name in ("file.txt", "made/a", "made/b")]
    before = [path.read_bytes() for path in files]
    path = damage(project, content)
    if content != "[{":
        for file in files:
            file.unlink()
        subprocess.run(["dvc", "checkout", "-q"], check=True)
        assert [file.read_bytes() for file in files] != before
        assert "up to date" in subprocess.run(["dvc", "status"], capture_output=True, text=True).stdout
    assert main(["fsck"]) == 1
    assert f"{path} ({owner})" in capsys.readouterr().out.splitlines()[0]
    assert main(["fsck", "--repair"]) == 1
    subprocess.run(["dvc", "repro", "-q"], check=True, capture_output=True)
    assert main(["fsck"]) == 0
    assert [file.read_bytes() for file in files] == before
    assert {p: p.read_bytes() for p in project.glob(".dvc/cache/files/md5/*/*")} == objects


def test_an_undamaged_copy_in_the_workspace_is_not_removed(project: Path) -> None:
    damage(project, "content")
    assert main(["fsck", "--repair"]) == 1
    assert (project / "file.txt").read_text() == "content"


def test_outside_a_repository_the_error_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fsck"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert os.listdir() == []
