"""What a user is told of a mistake."""

import pytest

from llmcore.base.errors import UserError, tell


def test_each_line_is_told_and_the_exit_code_is_2(capsys: pytest.CaptureFixture) -> None:
    assert tell(UserError("a: rule\nb: rule")) == 2
    assert capsys.readouterr().err == "error: a: rule\nerror: b: rule\n"


def test_the_password_in_an_address_is_not_told(capsys: pytest.CaptureFixture) -> None:
    tell(UserError("LLMCORE_MIRROR: https://mia:hunter2@files.example.org/gpt2 cannot be read"))
    assert capsys.readouterr().err == "error: LLMCORE_MIRROR: https://***@files.example.org/gpt2 cannot be read\n"
