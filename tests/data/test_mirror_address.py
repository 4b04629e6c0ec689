"""A mirror may want a user and a password, or a token; neither is printed, and none goes to another host."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from llmcore.base.errors import UserError
from llmcore.data.download import MIRROR_VARIABLE, RemoteFile, fetch

FILE = RemoteFile("file.bin", "http://127.0.0.1:9/file.bin", "folder/a file.bin", "none")
CONTENT = b"content"
PASSWORDS = [
    "plain",
    "p@ss",
    "pa:ss",
    "it's",
    'say "hi"',
    "two words",
    "a/b",
    "a?b#c",
    "100%",
    "gr\u00fcn\u20ac",
    "",
    "%41",
]


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        if self.server.redirect:
            self.send_response(302)
            self.send_header("Location", self.server.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif (self.path, self.headers.get("Authorization")) == self.server.wanted:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)
        else:
            self.send_error(401)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[list[Any]]:
    made: list[Any] = []
    for _ in range(2):
        server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.asked, server.redirect, server.wanted = [], None, None
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        made.append(server)
    yield made
    for server in made:
        server.shutdown()
        server.server_close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def get(folder: Path, monkeypatch: pytest.MonkeyPatch, mirror: str) -> bytes:
    monkeypatch.setenv(MIRROR_VARIABLE, mirror)
    fetch(FILE, folder / "file.bin", folder / "scratch", wait_seconds=0.0)
    return (folder / "file.bin").read_bytes()


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("password", PASSWORDS)
def test_mirror_gets_user_and_password(
    password: str, quoted: bool, servers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if password == "%41" and not quoted:
        password = "A"  # a percent sign with two digits is quoted already
    server = servers[0]
    server.wanted = ("/files/folder/a%20file.bin", basic("mia", password))
    shown = quote(password, safe="") if quoted else password
    assert get(tmp_path, monkeypatch, f"http://mia:{shown}@127.0.0.1:{server.server_port}/files/") == CONTENT


def test_query_of_a_mirror_stays_behind_the_name_of_the_file(
    servers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers[0]
    server.wanted = ("/files/folder/a%20file.bin?token=a%2Fb&v=1", basic("mia", "pw"))
    mirror = f"http://mia:pw@127.0.0.1:{server.server_port}/files?token=a%2Fb&v=1"
    assert get(tmp_path, monkeypatch, mirror) == CONTENT


def test_password_does_not_follow_a_redirect_to_another_host(
    servers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = servers
    first.redirect = f"http://localhost:{second.server_port}/elsewhere"
    with pytest.raises(UserError):
        get(tmp_path, monkeypatch, f"http://mia:hunter2@127.0.0.1:{first.server_port}")
    assert first.asked[0][1] == basic("mia", "hunter2")
    assert second.asked == [("/elsewhere", None)]


@pytest.mark.parametrize(
    "rest",
    [":9/f?{}", ":9?{}", ":9/f?sig=abc){}", ":9/f?sig='{}'", ":9/f?sig=abc {}", ":9/f;token={}", ":{}/f"],
)
def test_address_of_a_mirror_that_fails_is_shown_without_query_or_odd_port(
    rest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as raised:
        get(tmp_path, monkeypatch, "http://127.0.0.1" + rest.format("hunter2xyz"))
    assert "hunter2xyz" not in str(raised.value)


@pytest.mark.parametrize("password", [password for password in PASSWORDS if len(password) > 2])
@pytest.mark.parametrize("mirror", ["http://mia:{}@127.0.0.1:9/x?token=t0ken", "ftp://mia:{}@host", "mia:{}@host/x"])
def test_address_of_a_mirror_that_fails_is_shown_without_password(
    password: str, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as raised:
        get(tmp_path, monkeypatch, mirror.format(password))
    assert f":{password}@" not in str(raised.value)
    assert f"{password}@" not in str(raised.value)
    assert "t0ken" not in str(raised.value)
    assert "***@" in str(raised.value)
