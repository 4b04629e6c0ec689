"""How mistakes of the user are printed."""

from pathlib import Path

import pytest

from llmcore.base.errors import UserError, print_user_error


def test_each_line_is_printed_and_the_exit_code_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_user_error(UserError("a: rule\nb: rule")) == 2
    assert capsys.readouterr().err == "error: a: rule\nerror: b: rule\n"


def test_a_password_in_a_url_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_user_error(UserError("LLMCORE_MIRROR: https://mia:hunter2@files.example.org/gpt2 cannot be read"))
    assert capsys.readouterr().err == "error: LLMCORE_MIRROR: https://***@files.example.org/gpt2 cannot be read\n"


def test_a_command_in_a_sub_folder_is_told_where_the_root_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths are relative to the root, so `dvc repro`, which the error suggests, would not help."""
    (tmp_path / "docs/deep").mkdir(parents=True)
    for folder, lines in ((tmp_path, 1), (tmp_path / "docs", 1)):
        monkeypatch.chdir(folder)
        print_user_error(UserError("models/pretrain: no such model folder"))
        assert len(capsys.readouterr().err.splitlines()) == lines
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text("")
    for folder, lines in ((tmp_path, 1), (tmp_path / "docs", 2), (tmp_path / "docs/deep", 2)):
        monkeypatch.chdir(folder)
        print_user_error(UserError("models/pretrain: no such model folder"))
        printed = capsys.readouterr().err.splitlines()
        assert len(printed) == lines
        assert lines == 1 or printed[1] == f"error: this folder is inside the project {tmp_path}; run the command there"
