"""The judge against a local server that answers well, slowly, wrongly or not at all; and from its cache."""

import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from llmcore.base.errors import UserError
from llmcore.base.rows import AnswerRow
from llmcore.config.evaluation import JudgeParams
from llmcore.evaluate import judge as judging
from llmcore.evaluate.judge import KEY_VARIABLE, Judge, judge_answers, parse_score

Reply = tuple[int, bytes]


class Server:
    """Answers request number n, from 1, with `behave(n)`, and records the requests."""

    def __init__(self) -> None:
        self.behave: Callable[[int], Reply] = lambda number: good("85")
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []  # path, headers, body
        self.reply_headers: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, dict(self.headers), body))
                status, data = outer.behave(len(outer.requests))
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    for name, value in outer.reply_headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:  # the client no longer waits
                    pass

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


def good(text: str) -> Reply:
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(judging, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def settings(url: str, **changes: Any) -> JudgeParams:
    values: dict[str, Any] = {
        "kind": "openai",
        "url": url,
        "model": "m",
        "temperature": 0.0,
        "seed": 1,
        "max_tokens": 9,
        "timeout_seconds": 5.0,
    }
    return JudgeParams(**(values | changes))


def ask(judge: Judge, answer: str = "wet") -> str:
    return judge.reply("What is the opposite of dry?", "wet", answer)


def test_the_request_contains_the_question_and_all_settings(server: Server, tmp_path: Path) -> None:
    assert ask(Judge(settings(server.url), tmp_path / "cache.jsonl")) == "85"
    [(path, headers, body)] = server.requests
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    question = body["messages"][0]["content"]
    assert "`What is the opposite of dry?` and correct output `wet`, score the model response `wet`" in question
    assert (body["model"], body["temperature"], body["seed"], body["max_tokens"]) == ("m", 0.0, 1, 9)


def test_a_rerun_is_answered_from_the_cache_without_a_server(server: Server, tmp_path: Path) -> None:
    server.behave = lambda number: good(str(number))
    cache = tmp_path / "cache.jsonl"
    first = Judge(settings(server.url), cache)
    replies = [ask(first, answer) for answer in ("wet", "damp", "wet")]
    assert replies == ["1", "2", "1"]
    server.http.shutdown()
    server.http.server_close()
    assert [ask(Judge(settings(server.url), cache), answer) for answer in ("wet", "damp", "wet")] == replies
    kept = [json.loads(line) for line in cache.read_text().splitlines()]
    assert [(line["reply"], line["request"]["model"]) for line in kept] == [("1", "m"), ("2", "m")]


@pytest.mark.parametrize("change", [{"model": "other"}, {"temperature": 0.5}, {"seed": 2}, {"max_tokens": 3}])
def test_changed_settings_are_not_answered_from_the_cache(
    server: Server, tmp_path: Path, change: dict[str, Any]
) -> None:
    server.behave = lambda number: good(str(number))
    assert ask(Judge(settings(server.url), tmp_path / "cache.jsonl")) == "1"
    assert ask(Judge(settings(server.url, **change), tmp_path / "cache.jsonl")) == "2"


def test_a_cut_off_line_of_the_cache_is_asked_again(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache.jsonl"
    ask(Judge(settings(server.url), cache))
    cache.write_text(cache.read_text()[:-20] + "\n")
    assert ask(Judge(settings(server.url), cache)) == "85"
    assert len(server.requests) == 2


def test_the_key_comes_from_the_environment_and_is_not_stored(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    ask(Judge(settings(server.url), tmp_path / "cache.jsonl"))
    assert server.requests[0][1]["Authorization"] == "Bearer secret"
    assert "secret" not in (tmp_path / "cache.jsonl").read_text()


@pytest.mark.parametrize(
    "reply", [(500, b"oops"), (429, b"wait"), (200, b"<html>"), (200, b"{}"), (200, b'{"choices":[]}')]
)
def test_a_temporary_failure_is_retried(server: Server, tmp_path: Path, reply: Reply) -> None:
    server.behave = lambda number: reply if number < judging.MAX_ATTEMPTS else good("70")
    assert ask(Judge(settings(server.url), tmp_path / "cache.jsonl")) == "70"


def test_a_lasting_failure_is_one_error_line_and_earlier_replies_are_kept(server: Server, tmp_path: Path) -> None:
    server.behave = lambda number: good("70") if number == 1 else (500, b"oops")
    judge = Judge(settings(server.url), tmp_path / "cache.jsonl")
    ask(judge)
    with pytest.raises(UserError, match=r"evaluate_instruct\.judge: http\S+ must answer, got HTTP 500; correct url"):
        ask(judge, "damp")
    assert len(server.requests) == 1 + judging.MAX_ATTEMPTS
    assert len((tmp_path / "cache.jsonl").read_text().splitlines()) == 1


def test_a_reply_after_the_timeout_is_an_error(server: Server, tmp_path: Path) -> None:
    def slowly(number: int) -> Reply:
        time.sleep(0.5)
        return good("70")

    server.behave = slowly
    with pytest.raises(UserError, match=r"must answer, got .*timed out"):
        ask(Judge(settings(server.url, timeout_seconds=0.05), tmp_path / "cache.jsonl"))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_not_retried(server: Server, tmp_path: Path, status: int) -> None:
    server.behave = lambda number: (status, b"no")
    with pytest.raises(UserError, match=f"got HTTP {status}; .*set {KEY_VARIABLE}"):
        ask(Judge(settings(server.url), tmp_path / "cache.jsonl"))
    assert len(server.requests) == 1


def test_an_unreachable_judge_is_one_error_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must answer, got .*refused"):
        ask(Judge(settings("http://127.0.0.1:1/v1"), tmp_path / "cache.jsonl"))


@pytest.mark.parametrize("status", [302, 303, 307, 308])
def test_a_redirect_is_reported_and_not_followed_with_the_key(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    elsewhere = Server()
    server.reply_headers = {"Location": elsewhere.url}
    server.behave = lambda number: (status, b"")
    try:
        with pytest.raises(UserError, match=f"got HTTP {status}, a redirect to {elsewhere.url}; correct url"):
            ask(Judge(settings(server.url), tmp_path / "cache.jsonl"))
    finally:
        elsewhere.http.shutdown()
        elsewhere.http.server_close()
    assert elsewhere.requests == []
    assert len(server.requests) == 1


def test_no_password_of_netrc_is_sent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ask(Judge(settings(server.url), tmp_path / "cache.jsonl"))
    assert "Authorization" not in server.requests[0][1]


def answer_row(answer: str, prompt_input: str = "") -> AnswerRow:
    return {
        "instruction": "What is the opposite?",
        "input": prompt_input,
        "output": "wet",
        "answer": answer,
        "correct": answer == "wet",
        "token_f1": 0.0,
        "rouge_l": 0.0,
        "log_likelihood": -1.0,
        "ended": True,
        "words": 1,
    }


def test_judged_rows_have_reply_and_score_and_unparsable_replies_are_counted(server: Server, tmp_path: Path) -> None:
    server.behave = lambda number: good("80" if number == 1 else "no idea")
    rows = [answer_row("wet", "dry"), answer_row("damp")]
    judged, metrics = judge_answers(rows, Judge(settings(server.url), tmp_path / "cache.jsonl"), progress=False)
    assert judged == [
        {**rows[0], "judge_reply": "80", "judge_score": 80},
        {**rows[1], "judge_reply": "no idea", "judge_score": None},
    ]
    assert metrics == {"judge_rows": 1, "judge_unparsable": 1}
    assert "input `What is the opposite?\ndry`" in server.requests[0][2]["messages"][0]["content"]
    assert "input `What is the opposite?`" in server.requests[1][2]["messages"][0]["content"]


# ---- servers that behave badly


class RawServer:
    """Sends to every connection the pieces that `pieces()` yields, and closes it."""

    def __init__(self, pieces: Callable[[], Iterator[bytes]]) -> None:
        self.connections = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.pieces = pieces
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:  # closed
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            for piece in self.pieces():
                connection.sendall(piece)


def slowly(start: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        yield start
        while True:
            time.sleep(0.05)
            yield piece

    return pieces


def endlessly(start: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: chain([start], repeat(piece))


OK_LINE = b"HTTP/1.1 200 OK\r\n"
HEADERS = OK_LINE + b"Content-Type: application/json\r\n"
CHUNKED = HEADERS + b"Transfer-Encoding: chunked\r\n\r\n"
MEGABYTE = b" " * (1 << 20)


@pytest.mark.parametrize(
    "pieces",
    [
        slowly(b"", b"H"),
        slowly(OK_LINE, b"X"),
        slowly(OK_LINE, b"X: 1\r\n"),
        slowly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        slowly(HEADERS + b"\r\n", b" "),
        slowly(HEADERS + b"Content-Length: 100000\r\n\r\n", b" "),
        slowly(CHUNKED, b"1\r\n \r\n"),
        slowly(CHUNKED, b"0"),
        endlessly(HEADERS + b"\r\n", MEGABYTE),
        endlessly(HEADERS + b"Content-Length: 100000000000\r\n\r\n", MEGABYTE),
        endlessly(CHUNKED, b"100000\r\n" + MEGABYTE + b"\r\n"),
        endlessly(OK_LINE, b"X: 1\r\n"),
        endlessly(OK_LINE, b"X" * 1000),
        lambda: iter([HEADERS + b"Content-Length: 100\r\n\r\n", b'{"choices": [']),
        lambda: iter([HEADERS + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n12345"]),
        lambda: iter([HEADERS + b"\r\n" + b"[" * 100_000]),
        lambda: iter([HEADERS + b"\r\n" + b'"\xff"']),
        lambda: iter([b"\x00" * 100]),
        lambda: iter([]),
    ],
)
def test_reply_that_never_ends_or_is_broken_ends_in_time_as_one_line(
    pieces: Callable[[], Iterator[bytes]], server: Server, tmp_path: Path
) -> None:
    bad = RawServer(pieces)
    begin = time.monotonic()
    try:
        with pytest.raises(UserError, match=r"must answer, got .+; correct url or model") as raised:
            ask(Judge(settings(bad.url, timeout_seconds=0.5), tmp_path / "cache.jsonl"))
    finally:
        bad.socket.close()
    assert len(str(raised.value).splitlines()) == 1
    assert time.monotonic() - begin < 20  # three attempts of half a second each, on a busy machine
    assert bad.connections == judging.MAX_ATTEMPTS
    assert not (tmp_path / "cache.jsonl").exists()


def test_connection_that_drops_in_the_middle_is_tried_again(server: Server, tmp_path: Path) -> None:
    begun = HEADERS + b"Content-Length: 100\r\n\r\n" + b'{"choices": ['
    body = good("70")[1]
    whole = HEADERS + b"Content-Length: %d\r\n\r\n" % len(body) + body
    replies = iter([[begun], [begun], [whole]])
    bad = RawServer(lambda: iter(next(replies)))
    try:
        assert ask(Judge(settings(bad.url), tmp_path / "cache.jsonl")) == "70"
    finally:
        bad.socket.close()


@pytest.mark.parametrize("key", ["secret\n", "sec\r\nret", " secret", "secr\u20acet", "sec ret", "\tsecret"])
def test_key_that_fits_no_header_is_refused_and_not_printed(
    key: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(UserError, match=f"{KEY_VARIABLE}: must be one line of visible ASCII characters") as raised:
        ask(Judge(settings(server.url), tmp_path / "cache.jsonl"))
    assert "ret" not in str(raised.value).partition("got")[2]
    assert server.requests == []


# ---- odd replies, and whatever lies in the cache


@pytest.mark.parametrize(
    "text",
    ["9" * 4301, "85\ud800", "\udc00", "\u2028 85 \x85", "\x00", "", "8" * 100_000, "\u2212 5", "{" * 9000],
)
def test_odd_reply_is_counted_and_the_next_run_has_it_in_its_cache(text: str, server: Server, tmp_path: Path) -> None:
    server.behave = lambda number: good(text)
    cache = tmp_path / "cache.jsonl"
    results = [judge_answers([answer_row("wet")], Judge(settings(server.url), cache), progress=False) for _ in "12"]
    assert results[0] == results[1]
    assert len(server.requests) == 1
    [row] = results[0][0]
    json.dumps(row, ensure_ascii=False).encode()  # what is written into answers.jsonl
    assert (row["judge_score"] is None) == ("85 " not in text)


@pytest.mark.parametrize("content", [85, None, ["85"], {"a": 1}, float("nan"), int("9" * 4300)])
def test_content_that_is_no_text_is_a_reply(content: Any, server: Server, tmp_path: Path) -> None:
    server.behave = lambda number: (200, json.dumps({"choices": [{"message": {"content": content}}]}).encode())
    assert isinstance(ask(Judge(settings(server.url), tmp_path / "cache.jsonl")), str)


def test_number_of_any_length_beside_the_content_is_passed_over(server: Server, tmp_path: Path) -> None:
    body = good("85")[1].replace(b"{", b'{"used": %s, ' % (b"9" * 5000), 1)
    server.behave = lambda number: (200, body)
    assert ask(Judge(settings(server.url), tmp_path / "cache.jsonl")) == "85"


def test_question_with_half_a_surrogate_pair_is_asked_and_kept(server: Server, tmp_path: Path) -> None:
    for _ in "12":
        assert ask(Judge(settings(server.url), tmp_path / "cache.jsonl"), "wet\ud800") == "85"
    assert len(server.requests) == 1


ENTRY = b'{"key": "k", "reply": "r"}'
lines = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([ENTRY, ENTRY[:9], b"null", b"[]", b"[" * 100_000, b'{"key": [], "reply": "r"}', b"9" * 5000]),
    st.sampled_from([b'{"key": "k", "reply": 1}', b'{"key": "k"}', b"\xff\xfe", "\u2028".encode()]),
)


@settings_of_hypothesis(deadline=None, max_examples=30)
@given(st.lists(lines, max_size=4).map(b"\n".join), st.booleans())
def test_whatever_lies_in_the_cache_a_reply_is_kept_for_the_next_run(found: bytes, cut: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        cache = Path(folder, "cache.jsonl")
        cache.write_bytes(found + b"\n" * (not cut))
        patch.setattr(Judge, "_ask", lambda self, request: "85")
        assert ask(Judge(settings("http://host"), cache)) == "85"
        patch.setattr(Judge, "_ask", lambda self, request: "asked again")
        assert ask(Judge(settings("http://host"), cache)) == "85"
        assert cache.read_bytes().startswith(found)


def test_cache_that_cannot_be_written_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cache\.jsonl: cannot be written"):
        ask(Judge(settings(server.url), tmp_path / "cache.jsonl"))


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("85", 85),
        (" 100.\n", 100),
        ("Score: 0", 0),
        ("**72/100**", 72),
        ("I give it 40 out of 100.", 40),
        ("I cannot judge this.", None),
        ("", None),
        ("between 70 and 80", None),
        ("7.5", None),
        ("-5", None),
        *((f"{dash}5", None) for dash in "\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d"),
        ("\u2212 5", None),
        ("minus 5", None),
        ("Negative 5", None),
        (".5", None),
        ("I give it .5", None),
        ("0.5", None),
        (",5", None),
        ("5e", None),
        ("\u221a5", None),
        ("5\u0305", None),
        ("e\u0301valu\u00e9 : 85", 85),
        ("<score>85</score>", 85),
        ("It is 85, out of100.", 85),
        ("8\u00b2", None),
        ("7\u00bd", None),
        ("9" * 4301, None),
        ("0" * 5000, None),
        ("85\ufffd", None),
        ("\uff18\uff15", 85),
        ("101", None),
    ],
)
def test_a_score_is_exactly_one_integer_up_to_100(reply: str, score: int | None) -> None:
    assert parse_score(reply) == score
