"""How mistakes of the user are printed."""

import pytest

from llmcore.base.errors import UserError, print_user_error


def test_each_line_is_printed_and_the_exit_code_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_user_error(UserError("a: rule\nb: rule")) == 2
    assert capsys.readouterr().err == "error: a: rule\nerror: b: rule\n"


def test_a_password_in_a_url_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_user_error(UserError("LLMCORE_MIRROR: https://mia:hunter2@files.example.org/gpt2 cannot be read"))
    assert capsys.readouterr().err == "error: LLMCORE_MIRROR: https://***@files.example.org/gpt2 cannot be read\n"
