"""`fetch` against a real server on 127.0.0.1; no test needs another network."""

import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmcore.base.errors import UserError
from llmcore.data import download
from llmcore.data.download import Fetched, RemoteFile, fetch

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:9/file.bin"  # the discard port: refused at once
STALLED_TIMEOUT_SECONDS = 0.2


class Site(ThreadingHTTPServer):
    """A file server that can break off, stall, fail and redirect, and records the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.redirects: dict[str, tuple[str, str]] = {}  # path -> target path, linked ETag
        self.cuts: list[int] = []  # bytes after which each of the next answers breaks off
        self.stalls: list[int] = []  # bytes after which each of the next answers pauses
        self.errors: list[int] = []  # status of each of the next answers
        self.asked: list[tuple[str, str | None]] = []  # path, Range

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        site: Site = self.server
        site.asked.append((self.path, self.headers.get("Range")))
        if site.errors:
            return self.send_error(site.errors.pop(0))
        if self.path in site.redirects:
            return self._redirect(*site.redirects[self.path])
        if self.path not in site.files:
            return self.send_error(404)
        content, etag = site.files[self.path], site.etags.get(self.path)
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and condition in (None, etag) else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self._finish(b"", etag)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        return self._finish(content[start:], etag)

    def _redirect(self, target: str, etag: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("X-Linked-ETag", etag)
        self._finish(b"", None)

    def _finish(self, body: bytes, etag: str | None) -> None:
        if etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.stalls:
            sent = self.server.stalls.pop(0)
            self.wfile.write(body[:sent])
            time.sleep(3 * STALLED_TIMEOUT_SECONDS)
            return
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(download.MIRROR_VARIABLE, raising=False)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out" / "file.bin"


def remote(url: str, sha256: str | None = SHA256, **rest: Any) -> RemoteFile:
    return RemoteFile("file.bin", url, "folder/file.bin", "none", sha256, **rest)


def get(file: RemoteFile, target: Path) -> Fetched:
    return fetch(file, target, target.parents[1] / "scratch", wait_seconds=0.001)


def leftovers(target: Path) -> list[Path]:
    root = target.parents[1]
    return [path for name in ("scratch", "out") for path in (root / name).rglob("*") if path.is_file()]


def test_a_file_arrives_complete_and_scratch_is_left_empty(site: Site, target: Path):
    site.files["/a"] = CONTENT
    fetched = get(remote(site.url("/a"), size_bytes=len(CONTENT)), target)
    assert target.read_bytes() == CONTENT
    assert fetched == Fetched(SHA256, len(CONTENT), None)
    assert leftovers(target) == [target]


def test_a_broken_transfer_is_resumed_by_range(site: Site, target: Path):
    site.files["/a"] = CONTENT
    site.etags["/a"] = '"one"'
    site.cuts = [700_000]
    get(remote(site.url("/a")), target)
    assert target.read_bytes() == CONTENT
    assert site.asked == [("/a", None), ("/a", "bytes=700000-")]


def test_a_stalled_transfer_times_out_and_is_resumed(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", STALLED_TIMEOUT_SECONDS)
    site.files["/a"], site.etags["/a"] = CONTENT * 2, '"one"'
    site.stalls = [len(CONTENT) + 500]
    get(remote(site.url("/a"), sha256=None), target)
    assert target.read_bytes() == CONTENT * 2
    assert site.asked == [("/a", None), ("/a", f"bytes={len(CONTENT)}-")]


def test_an_abandoned_transfer_is_resumed_by_the_next_run(site: Site, target: Path):
    site.files["/a"] = CONTENT
    site.cuts = [300_000, 0, 0, 0, 0]
    with pytest.raises(UserError, match="300000 of 1048576 bytes"):
        get(remote(site.url("/a")), target)
    assert not target.exists()
    site.asked.clear()
    get(remote(site.url("/a")), target)
    assert target.read_bytes() == CONTENT
    assert site.asked == [("/a", "bytes=300000-")]


def test_a_file_without_pinned_hash_and_etag_is_not_resumed(site: Site, target: Path):
    site.files["/a"] = CONTENT
    site.cuts = [300_000]
    get(remote(site.url("/a"), sha256=None), target)
    assert site.asked == [("/a", None), ("/a", None)]
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_between_two_attempts_is_fetched_anew(site: Site, target: Path):
    old, new = b"old" * 1000, b"new" * 1500
    site.files["/a"] = old
    site.etags["/a"] = '"old"'
    site.cuts = [900, 0, 0, 0, 0]
    file = remote(site.url("/a"), sha256=None)
    with pytest.raises(UserError):
        get(file, target)
    site.files["/a"], site.etags["/a"] = new, '"new"'
    assert get(file, target).etag == "new"
    assert target.read_bytes() == new


def test_a_complete_part_left_by_a_killed_run_is_not_fetched_again(site: Site, target: Path):
    site.files["/a"], site.etags["/a"] = CONTENT, '"one"'
    file = remote(site.url("/a"))
    scratch = target.parents[1] / "scratch"
    scratch.mkdir()
    part = download._part_path(scratch, file, file.url)
    part.write_bytes(CONTENT)
    assert get(file, target).etag == "one"
    assert site.asked == [("/a", f"bytes={len(CONTENT)}-")]
    assert target.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_discarded(site: Site, target: Path):
    site.files["/a"] = CONTENT
    file = remote(site.url("/a"))
    scratch = target.parents[1] / "scratch"
    scratch.mkdir()
    download._part_path(scratch, file, file.url).write_bytes(CONTENT + b"more")
    get(file, target)
    assert target.read_bytes() == CONTENT


def test_a_busy_server_is_retried(site: Site, target: Path):
    site.files["/a"] = CONTENT
    site.errors = [503, 429, 500]
    get(remote(site.url("/a")), target)
    assert target.read_bytes() == CONTENT
    assert len(site.asked) == 4


def test_a_server_that_always_starts_over_and_breaks_off_is_given_up(site: Site, target: Path):
    site.files["/a"] = CONTENT
    site.cuts = [300, 400, 350, 400, 350, 400, 350]
    with pytest.raises(UserError, match="connection ended after 400 of 1048576 bytes"):
        get(remote(site.url("/a"), sha256=None), target)  # neither hash nor ETag: each attempt starts over
    assert len(site.asked) == 6


def test_a_missing_file_is_requested_once(site: Site, target: Path):
    with pytest.raises(UserError, match="HTTP 404"):
        get(remote(site.url("/a")), target)
    assert len(site.asked) == 1


@pytest.mark.parametrize("content", [b"something else", b""])
def test_a_wrong_hash_is_an_error_with_both_hashes_and_a_remedy_and_leaves_nothing(
    site: Site, target: Path, content: bytes
):
    site.files["/a"] = content
    with pytest.raises(UserError) as caught:
        get(remote(site.url("/a")), target)
    message = str(caught.value)
    for part in ("folder/file.bin", SHA256, hashlib.sha256(content).hexdigest(), "run again", "LLMCORE_MIRROR"):
        assert part in message
    assert "\n" not in message
    assert leftovers(target) == []


def test_a_wrong_size_is_refused(site: Site, target: Path):
    site.files["/a"] = CONTENT
    with pytest.raises(UserError, match="must have at most 5 bytes, got 1,048,576"):
        get(remote(site.url("/a"), sha256=None, size_bytes=5), target)
    assert leftovers(target) == []


def test_without_network_and_mirror_one_error_line_names_the_remedies(target: Path):
    with pytest.raises(UserError) as caught:
        get(remote(NOWHERE), target)
    message = str(caught.value)
    assert "\n" not in message
    for part in (NOWHERE, "Connection refused", "LLMCORE_MIRROR", "'folder/file.bin'", "kind: local"):
        assert part in message
    assert leftovers(target) == []


def test_the_linked_etag_of_a_large_file_is_its_hash_and_verified(site: Site, target: Path):
    site.files["/storage"], site.etags["/storage"] = CONTENT, '"the storage\'s own"'
    site.redirects["/resolve"] = ("/storage", f'"{SHA256}"')
    assert get(remote(site.url("/resolve"), sha256=None), target).etag == SHA256
    site.files["/storage"] = CONTENT[:-1] + b"x"
    target.unlink()
    with pytest.raises(UserError, match=f"SHA-256 must be {SHA256}"):
        get(remote(site.url("/resolve"), sha256=None), target)
    assert not target.exists()


def test_the_etag_of_a_small_file_is_recorded(site: Site, target: Path):
    site.files["/a"], site.etags["/a"] = CONTENT, 'W/"10c66461e4c109db5a2196bff4bb59be30396ed8"'
    assert get(remote(site.url("/a"), sha256=None), target).etag == "10c66461e4c109db5a2196bff4bb59be30396ed8"


def test_a_redirected_transfer_is_resumed(site: Site, target: Path):
    site.files["/storage"], site.etags["/storage"] = CONTENT, '"s"'
    site.redirects["/resolve"] = ("/storage", f'"{SHA256}"')
    site.cuts = [10**9, 400_000]  # the first is for the empty body of the redirect
    get(remote(site.url("/resolve"), sha256=None), target)
    assert target.read_bytes() == CONTENT
    assert site.asked[-1] == ("/storage", "bytes=400000-")


def test_a_mirror_folder_replaces_the_network(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mirror" / "folder").mkdir(parents=True)
    (tmp_path / "mirror" / "folder" / "file.bin").write_bytes(CONTENT)
    monkeypatch.setenv("LLMCORE_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a socket was opened"))
    assert get(remote(NOWHERE), target) == Fetched(SHA256, len(CONTENT), None)
    assert target.read_bytes() == CONTENT
    assert (tmp_path / "mirror" / "folder" / "file.bin").read_bytes() == CONTENT


def test_a_mirror_url_replaces_the_address_and_names_are_quoted(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
):
    site.files["/base/sms%2Bspam.zip"] = CONTENT
    monkeypatch.setenv("LLMCORE_MIRROR", site.url("/base/"))
    get(RemoteFile("file.bin", site.url("/origin"), "sms+spam.zip", "none", SHA256), target)
    assert target.read_bytes() == CONTENT
    assert [path for path, _ in site.asked] == ["/base/sms%2Bspam.zip"]


@pytest.mark.parametrize("kind", ["folder", "url", "dead url"])
def test_a_file_missing_in_the_mirror_comes_from_its_own_address(
    site: Site, tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    site.files["/a"] = CONTENT
    mirrors = {"folder": str(tmp_path), "url": site.url("/empty"), "dead url": "http://127.0.0.1:9"}
    monkeypatch.setenv("LLMCORE_MIRROR", mirrors[kind])
    get(remote(site.url("/a")), target)
    assert target.read_bytes() == CONTENT


def test_a_mirror_that_does_not_exist_is_an_error(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LLMCORE_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="LLMCORE_MIRROR: must be a folder or a base URL"):
        get(remote(NOWHERE), target)


def test_a_wrong_file_in_the_mirror_is_refused_and_not_deleted(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file.bin").write_bytes(b"other")
    monkeypatch.setenv("LLMCORE_MIRROR", str(tmp_path))
    with pytest.raises(UserError, match="SHA-256 must be"):
        get(remote(NOWHERE), target)
    assert (tmp_path / "folder" / "file.bin").exists()
    assert leftovers(target) == []


def archive(compression: int, comment: bytes = b"", **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as opened:
        opened.comment = comment
        for name, content in members.items():
            opened.writestr(name, content)
    return buffer.getvalue()


def damaged(content: bytes) -> bytes:
    """Overwrite the first byte of the first member's data with one that no deflate stream starts with."""
    start = 30 + len("wanted")  # the local header and the name after it
    return content[:start] + b"\xff" + content[start + 1 :]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_pinned_hash_of_an_archive_is_that_of_its_member(site: Site, target: Path, compression: int):
    site.files["/a.zip"] = archive(compression, b"repacked", wanted=CONTENT, readme=b"text")
    fetched = get(remote(site.url("/a.zip"), member="wanted", size_bytes=len(CONTENT)), target)
    assert (fetched.sha256, target.read_bytes()) == (SHA256, CONTENT)
    assert leftovers(target) == [target]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (archive(zipfile.ZIP_STORED, other=b"x"), "member 'wanted'"),
        (b"<html>blocked by the proxy</html>", "must be a zip archive"),
        (damaged(archive(zipfile.ZIP_DEFLATED, wanted=CONTENT)), "member 'wanted'"),
        (archive(zipfile.ZIP_STORED, wanted=b"x"), "member wanted: SHA-256 must be"),
    ],
)
def test_an_archive_without_the_right_member_is_refused(site: Site, target: Path, content: bytes, problem: str):
    site.files["/a.zip"] = content
    with pytest.raises(UserError, match=problem):
        get(remote(site.url("/a.zip"), member="wanted"), target)
    assert leftovers(target) == []


def test_an_unwritable_target_is_an_error_and_the_download_is_kept(site: Site, tmp_path: Path):
    site.files["/a"], site.etags["/a"] = CONTENT, '"one"'
    (tmp_path / "plain file").write_text("in the way")
    file = remote(site.url("/a"))
    scratch = tmp_path / "scratch"
    with pytest.raises(UserError, match=r"plain file/file\.bin: cannot be written"):
        fetch(file, tmp_path / "plain file" / "file.bin", scratch, wait_seconds=0.001)
    fetch(file, tmp_path / "file.bin", scratch, wait_seconds=0.001)
    assert site.asked[1:] == [("/a", f"bytes={len(CONTENT)}-")]  # nothing left to fetch


def test_an_unwritable_scratch_folder_is_an_error(site: Site, tmp_path: Path):
    (tmp_path / "plain file").write_text("in the way")
    with pytest.raises(UserError, match="plain file/scratch: cannot be written"):
        fetch(remote(site.url("/a")), tmp_path / "file.bin", tmp_path / "plain file" / "scratch")


def test_progress_shows_the_bytes(site: Site, target: Path, capsys: pytest.CaptureFixture[str]):
    site.files["/a"] = CONTENT
    fetch(remote(site.url("/a")), target, target.parents[1] / "scratch", progress=True)
    shown = capsys.readouterr().err
    assert "folder/file.bin" in shown
    assert "1.00M/1.00M" in shown
