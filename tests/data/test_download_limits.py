"""A mirror that never ends, lies about lengths, or has a hostile archive: bounded, the next address, or one line."""

import hashlib
import io
import os
import struct
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcore.base.errors import UserError
from llmcore.base.files import CHUNK_BYTES
from llmcore.data import download, sources
from llmcore.data.download import Fetched, RemoteFile, fetch

CONTENT = b"text " * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/good/file.bin":
            headers, body = {"Content-Length": str(len(CONTENT))}, iter([CONTENT])
        else:
            headers, body = self.server.answer()
        self.send_response(302 if "Location" in headers else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for chunk in body:
            try:
                self.wfile.write(chunk)
            except OSError:  # the client has enough
                return
            self.server.sent += len(chunk)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server whose folder /mirror gives `answer`, and whose /good/file.bin is the file."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.sent = [], 0
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv(download.MIRROR_VARIABLE, f"http://127.0.0.1:{server.server_port}/mirror")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def get(url: str, folder: Path, **facts: Any) -> Fetched:
    facts = {"sha256": SHA256, "size_bytes": len(CONTENT), **facts}
    file = RemoteFile("file.bin", url, "file.bin", "none", **facts)
    return fetch(file, folder / "out/a", folder / "s", wait_seconds=0)


def endless() -> tuple[dict[str, str], Iterator[bytes]]:
    return {}, iter(lambda: b"\0" * CHUNK_BYTES, None)


def nothing(**headers: str) -> Any:
    return lambda: ({name.replace("_", "-"): value for name, value in headers.items()}, iter([]))


ANSWERS = {
    "endless": endless,
    "long": nothing(Content_Length=str(10**15)),
    "length x": nothing(Content_Length="x"),
    "length -5": nothing(Content_Length="-5"),
    "length of 5,000 digits": nothing(Content_Length="9" * 5000),
    "length in other digits": nothing(Content_Length="\u00b2"),
    "redirect to no address": nothing(Location="http://["),
    "redirect to another scheme": nothing(Location="file:///etc/passwd"),
    "redirect to a bad port": nothing(Location="http://127.0.0.1:x/"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_mirror_that_lies_is_left_for_the_next_address(site: Any, tmp_path: Path, answer: str) -> None:
    site.answer = ANSWERS[answer]
    get(f"http://127.0.0.1:{site.server_port}/good/file.bin", tmp_path)
    assert (tmp_path / "out/a").read_bytes() == CONTENT
    assert site.sent < len(CONTENT) + 20 * CHUNK_BYTES  # what sockets buffer
    assert list((tmp_path / "s").iterdir()) == []


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_address_that_lies_is_one_line(site: Any, tmp_path: Path, answer: str) -> None:
    site.answer = ANSWERS[answer]
    with pytest.raises(UserError, match=r"^file.bin: cannot be had from ") as caught:
        get(f"http://127.0.0.1:{site.server_port}/other", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["pipe", "device", "folder", "loop", "large"])
def test_a_mirror_folder_with_something_else_is_left_for_the_next_address(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / "file.bin"
    if place == "pipe":
        os.mkfifo(path)
    elif place == "folder":
        path.mkdir()
    elif place == "large":
        with open(path, "wb") as file:
            file.truncate(1 << 40)  # a sparse file
    else:
        path.symlink_to("/dev/zero" if place == "device" else path.name)
    monkeypatch.setenv(download.MIRROR_VARIABLE, str(tmp_path))
    get(f"http://127.0.0.1:{site.server_port}/good/file.bin", tmp_path)
    assert (tmp_path / "out/a").read_bytes() == CONTENT


# ---- archives


def archive(content: bytes = CONTENT, method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as opened:
        opened.writestr("member.txt", content)
    return bytearray(file.getvalue())


def extract(data: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file.bin").write_bytes(data)
    monkeypatch.setenv(download.MIRROR_VARIABLE, str(folder))
    get("http://127.0.0.1:9/", folder, member="member.txt")


def patched(data: bytearray, signature: bytes, offset: int, value: bytes) -> bytes:
    at = data.index(signature) + offset
    data[at : at + len(value)] = value
    return bytes(data)


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
ARCHIVES = {
    "bomb": bytes(archive(b"\0" * 100_000_000)),
    "one byte too many": bytes(archive(CONTENT + b"x")),
    "encrypted": patched(archive(), CENTRAL, 8, b"\x01\0"),
    "encrypted in both headers": patched(bytearray(patched(archive(), CENTRAL, 8, b"\x01\0")), LOCAL, 6, b"\x01\0"),
    "unknown method": patched(archive(), CENTRAL, 10, struct.pack("<H", 97)),
    "method of another": patched(archive(), CENTRAL, 10, struct.pack("<H", zipfile.ZIP_BZIP2)),
    "lzma of another": patched(archive(), CENTRAL, 10, struct.pack("<H", zipfile.ZIP_LZMA)),
    "offset behind the end": patched(archive(), CENTRAL, 42, struct.pack("<I", 1 << 30)),
    "offset of the directory": patched(archive(), END, 16, struct.pack("<I", 1 << 30)),
    "newer version": patched(archive(), CENTRAL, 6, struct.pack("<H", 999)),
    "wrong checksum": patched(archive(), CENTRAL, 16, b"\0\0\0\0"),
    "another member": bytes(archive()).replace(b"member.txt", b"memberXtxt"),
    "empty": b"",
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(UserError, match=r"^file.bin: must be a zip archive with the member 'member.txt' \(.+\)") as got:
        extract(ARCHIVES[name], tmp_path, monkeypatch)
    assert "\n" not in str(got.value)
    assert list((tmp_path / "s").iterdir()) == []


@given(st.integers(0, len(archive()) - 1), st.integers(0, 255), st.booleans())
@same_folder
def test_any_damage_of_an_archive_is_one_line_or_none(tmp_path: Path, at: int, byte: int, cut: bool) -> None:
    data = archive()
    data[at] = byte
    with pytest.MonkeyPatch.context() as patch:
        try:
            extract(bytes(data[:at] if cut else data), tmp_path, patch)
        except UserError as error:
            problem = str(error)
            assert "\n" not in problem
        else:
            assert (tmp_path / "out/a").read_bytes() == CONTENT


@pytest.mark.parametrize("file", [sources.THE_VERDICT, sources.SMS_SPAM, sources.BOOK_INSTRUCTIONS])
def test_what_is_pinned_bounds_what_is_transferred(file: RemoteFile) -> None:
    assert file.size_bytes is not None
    assert file.size_bytes <= file.max_bytes < 10 * file.size_bytes
