"""No password of any address is printed, by whichever library and however it is spelled."""

import http.client
import json
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from structure import ROOT

from llmcore.base.credentials import holds_credentials, masked, without_credentials
from llmcore.base.errors import UserError

SCHEMES = ("http", "https", "postgresql+psycopg2", "mysql", "sqlite", "ssh", "s3", "no-such", "HTTP")
HOSTS = ("host", "db.example.org:5432", "127.0.0.1:1", "[::1]:80")
MARK = "pA55"  # in every password, so that a part of it is found, too

any_character = st.characters(codec="utf-8", exclude_characters="\n\r\0")
plain_character = st.characters(codec="ascii", exclude_categories=["Z", "C"])
users = st.text("abcXYZ019._-", min_size=1, max_size=8)


def passwords(characters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.text(characters, max_size=6), st.text(characters, max_size=6)).map(MARK.join)


@contextmanager
def environment(**values: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        yield


def requested(address: str) -> object:
    return requests.Request("GET", address).prepare().url


def connected(address: str) -> object:
    return http.client.HTTPConnection(address.partition("://")[2])


def split(address: str) -> object:
    return urllib.parse.urlsplit(address).port


def database(address: str) -> object:
    from sqlalchemy import create_engine

    return create_engine(address)


LIBRARIES: list[Callable[[str], object]] = [requested, connected, split, database]


def spellings(address: str) -> Iterator[str]:
    """Yield the texts in which an address may come to a terminal: bare, quoted, in the exceptions of libraries."""
    yield from (address, repr(address), json.dumps(address), f"{address}/api failed; write to me@example.org")
    for library in LIBRARIES:
        try:
            yield str(library(address))
        except Exception as error:
            while error:
                yield from (str(error), repr(error))
                error = error.__cause__ or error.__context__  # type: ignore[assignment]


@settings(deadline=None, max_examples=200)  # the first call imports the libraries
@given(st.sampled_from(SCHEMES), users, passwords(any_character), st.sampled_from(HOSTS))
def test_no_text_shows_the_password_of_an_address_in_the_environment(
    scheme: str, user: str, password: str, host: str
) -> None:
    address = f"{scheme}://{user}:{password}@{host}/path"
    with environment(LLMCORE_MIRROR=address):
        for text in spellings(address):
            assert MARK not in masked(text)


@given(st.sampled_from(SCHEMES), users, passwords(plain_character), st.sampled_from(HOSTS))
def test_no_address_shows_its_password_wherever_it_comes_from(scheme: str, user: str, password: str, host: str) -> None:
    address = f"{scheme}://{user}:{password}@{host}/path"
    assert MARK not in masked(f"at {address}: 'refused'")
    assert holds_credentials(address)
    assert MARK not in str(UserError(f"x: got {address!r}; correct it"))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("password", [MARK, f"{MARK}/x", f"x:{MARK}", f"{MARK}@x"])
def test_libraries_show_no_password_of_an_address_from_elsewhere(scheme: str, password: str) -> None:
    for text in spellings(f"{scheme}://mia:{password}@host:5432/path"):
        assert MARK not in masked(text)


@given(users, st.text("abc/?#:'\" ", max_size=8))
def test_address_without_a_scheme_shows_no_password(user: str, after: str) -> None:
    assert MARK not in masked(f"cannot reach {user}:{MARK}@host/{after}")
    assert MARK not in masked(f"cannot reach //{user}:{MARK}@host/{after}")


@given(st.text("abcdefgh-_", min_size=1), st.text("abcXYZ0189%+/-_.~", max_size=8))
def test_values_of_a_query_are_not_shown(name: str, value: str) -> None:
    shown = masked(f"GET https://host/file.bin?version=3&{name}={value}{MARK}#access={MARK} failed")
    assert MARK not in shown
    assert shown.startswith(f"GET https://host/file.bin?version=***&{name}=***")
    assert shown.endswith(" failed")
    assert MARK not in masked(f"Max retries exceeded with url: /files/file.bin?{name}={value}{MARK} (Caused by x)")


@pytest.mark.parametrize(
    "text",
    [
        "https://host/a@b and me@example.org",
        "git@github.com:somebody/something",
        "http://127.0.0.1:5000 failed; write to me@example.org",
        "http://127.0.0.1:5000/#/experiments/1",
        "error: download@text: port 5000 is taken, got 'data/raw/a:b'",
        "port: '5000'",
    ],
)
def test_text_without_a_password_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize("name", ["LLMCORE_JUDGE_KEY", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY"])
@pytest.mark.parametrize("value", [MARK * 2, f"{MARK * 2}\n", f"it's {MARK}\n{MARK * 2}\n"])
def test_secrets_of_the_environment_are_not_shown(name: str, value: str) -> None:
    with environment(**{name: value}):
        assert MARK not in masked(f"Invalid header {value!r}, {value}")


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/f?{}-bare-token",
        "http://127.0.0.1:9?{}",
        "http://127.0.0.1:9/f?sig=abc){}",
        "http://127.0.0.1:9/f?sig='{}'",
        "http://127.0.0.1:9/f?sig='abc {}",
        "http://127.0.0.1:9/f?sig=abc%20{}",
        "http://127.0.0.1:9/f;token={}",
        "http://127.0.0.1:9/f#{}",
        "http://127.0.0.1:{}/f",
        "http://mia@host:{}/f",
        "http://[::1]:{}/f",
        "mysql://h/db?password={}",
        "jdbc:mysql://h/db?password={}",
    ],
)
def test_query_and_odd_port_of_an_address_in_the_environment_are_not_shown(address: str) -> None:
    address = address.format("hunter2xyz")
    with environment(LLMCORE_MIRROR=address):
        for text in (*spellings(address), requests.utils.requote_uri(address), "denied: hunter2xyz"):
            assert "hunter2xyz" not in masked(text)


@pytest.mark.parametrize(
    "value",
    [
        "see http://host/a?b; then words of a sentence",
        "http://host:5000",
        "sqlite:///C:/words/sentence.db?mode=ro",
        "PLAINTEXT://:9092,CONTROLLER://:9093",
        "C:\\words?sentence",
    ],
)
def test_harmless_values_of_the_environment_hide_no_words(value: str) -> None:
    text = "C: http 9092 5000 CONTROLLER: then words of a sentence, a/b? mode"
    with environment(LLMCORE_MIRROR=value):
        assert masked(text) == text


@pytest.mark.parametrize("name", ["LLMCORE_JUDGE_KEY", "TOKEN_2", "KEY3", "DB_PASS", "DB_PWD", "GITHUB_PAT"])
def test_secret_that_looks_like_an_address_is_hidden_whole(name: str) -> None:
    with environment(**{name: "id:abcd@SECRETPART99"}):
        assert masked("key 'id:abcd@SECRETPART99'") == "key '***'"


@pytest.mark.parametrize("name", ["PWD", "OLDPWD", "SSH_ASKPASS", "COMPASS"])
def test_variable_that_is_no_secret_is_shown(name: str) -> None:
    with environment(**{name: "/some/folder"}):
        assert masked("in /some/folder") == "in /some/folder"


def test_secret_is_hidden_however_it_is_escaped() -> None:
    with environment(API_TOKEN="hunter2%2fcde", OTHER_TOKEN="gr\u00fcn\u20acxyz"):
        assert masked("hunter2%2Fcde, hunter2/cde, gr\\xfcn\\u20acxyz") == "***, ***, ***"


def test_text_after_a_bad_port_stays() -> None:
    assert masked("nonnumeric port: 'pA55'; set 'url' to 'x'") == "nonnumeric port: '***'; set 'url' to 'x'"
    assert masked(r"base 10: 'it\'s pA55'; set 'url'") == "base 10: '***'; set 'url'"
    with environment(MLFLOW_TRACKING_URI="http://mia:it's pA55@host"):
        assert masked("nonnumeric port: 'it's pA55@host'; set 'url'") == "nonnumeric port: '***'; set 'url'"


@given(users, passwords(any_character), st.sampled_from(HOSTS))
def test_address_is_parted_from_its_credentials(user: str, password: str, host: str) -> None:
    quoted = urllib.parse.quote(password, safe="")
    bare = f"https://{host}/files/a@b"
    assert without_credentials(f"https://{user}:{quoted}@{host}/files") == (f"https://{host}/files", (user, password))
    assert without_credentials(bare) == (bare, None)


BUG = """
import sys, threading, logging, warnings
from llmcore.base.errors import run_entry_point
address = sys.argv[1]
def fail(): raise ValueError(f"bad address {address!r}")
def work():
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    logging.getLogger("a library").warning("retrying %s", address)
    warnings.warn(f"odd address {address}")
    try: fail()
    except ValueError as error: raise RuntimeError("failed") from error
sys.exit(run_entry_point(work, prints_result=True))
"""


def test_traceback_of_a_bug_and_words_of_libraries_show_no_password() -> None:
    address = f"http://mia:{MARK}@host/x"
    command = [sys.executable, "-c", BUG, address]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert [done.stderr.count(word) for word in ("bad address", "retrying", "odd address", "Traceback")] == [2, 1, 1, 3]
    assert MARK not in done.stderr + done.stdout
