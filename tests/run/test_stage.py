"""How a stage ends: one line for what the system refuses, a traceback for a bug."""

import errno
import os
from types import SimpleNamespace

import pytest

from llmcore.base import errors
from llmcore.run import stage


@pytest.mark.parametrize("number", [*errors.NO_ROOM, *errors.NO_PERMISSION, *errors.BAD_PATH])
def test_what_the_system_refuses_is_one_line(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errno.EFBIG in errors.NO_ROOM  # `ulimit -f`
    assert run(OSError(number, os.strerror(number), "data/x"), monkeypatch) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: data/x: cannot be ")
    assert os.strerror(number) in printed
    assert printed.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        run(FileNotFoundError(errno.ENOENT, "No such file"), monkeypatch)


def run(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    def fail(arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr(stage, "settle_numerics", lambda **params: None)
    monkeypatch.setattr(stage, "importlib", SimpleNamespace(import_module=lambda name: SimpleNamespace(main=fail)))
    return stage.run_stage("sample", [])
