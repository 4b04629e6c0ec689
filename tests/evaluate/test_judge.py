"""The judge against a server on this machine: good, slow, broken, refusing; and without any, from its cache."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmcore.base.errors import UserError
from llmcore.config import params
from llmcore.evaluate import judge as judging
from llmcore.evaluate.judge import KEY_VARIABLE, Judge, parse_score

Reply = tuple[int, bytes]


class Server:
    """Answers as `behave` says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.behave: Callable[[int], Reply] = lambda number: good("85")
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, dict(self.headers), body))
                status, data = outer.behave(len(outer.requests))
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:  # who asked waits no longer
                    pass

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
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


def settings(url: str, **changes: Any) -> params.Judge:
    values: dict[str, Any] = {
        "kind": "openai",
        "url": url,
        "model": "m",
        "temperature": 0.0,
        "seed": 1,
        "max_tokens": 9,
    }
    return params.Judge(**(values | {"timeout_seconds": 5.0} | changes))


def ask(judge: Judge, answer: str = "wet") -> str:
    return judge.reply("What is the opposite of dry?", "wet", answer)


def test_a_good_judge_is_asked_all_that_matters(server: Server, tmp_path: Path) -> None:
    assert ask(Judge(settings(server.url), tmp_path / "cache.jsonl")) == "85"
    [(path, headers, body)] = server.requests
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    question = body["messages"][0]["content"]
    assert "`What is the opposite of dry?` and correct output `wet`, score the model response `wet`" in question
    assert (body["model"], body["temperature"], body["seed"], body["max_tokens"]) == ("m", 0.0, 1, 9)


def test_a_rerun_asks_nothing_again_even_without_a_server(server: Server, tmp_path: Path) -> None:
    server.behave = lambda number: good(str(number))
    first, cache = Judge(settings(server.url), tmp_path / "cache.jsonl"), tmp_path / "cache.jsonl"
    replies = [ask(first, answer) for answer in ("wet", "damp", "wet")]
    assert replies == ["1", "2", "1"]
    server.http.shutdown()
    server.http.server_close()
    assert [ask(Judge(settings(server.url), cache), answer) for answer in ("wet", "damp", "wet")] == replies
    kept = [json.loads(line) for line in cache.read_text().splitlines()]
    assert [(line["reply"], line["request"]["model"]) for line in kept] == [("1", "m"), ("2", "m")]


@pytest.mark.parametrize("change", [{"model": "other"}, {"temperature": 0.5}, {"seed": 2}, {"max_tokens": 3}])
def test_another_judge_is_asked_anew(server: Server, tmp_path: Path, change: dict[str, Any]) -> None:
    server.behave = lambda number: good(str(number))
    assert ask(Judge(settings(server.url), tmp_path / "cache.jsonl")) == "1"
    assert ask(Judge(settings(server.url, **change), tmp_path / "cache.jsonl")) == "2"


def test_a_line_that_a_kill_cut_short_is_asked_again(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache.jsonl"
    ask(Judge(settings(server.url), cache))
    cache.write_text(cache.read_text()[:-20] + "\n")
    assert ask(Judge(settings(server.url), cache)) == "85"
    assert len(server.requests) == 2


def test_a_key_comes_from_the_environment_and_is_kept_nowhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    ask(Judge(settings(server.url), tmp_path / "cache.jsonl"))
    assert server.requests[0][1]["Authorization"] == "Bearer secret"
    assert "secret" not in (tmp_path / "cache.jsonl").read_text()


@pytest.mark.parametrize(
    "reply", [(500, b"oops"), (429, b"wait"), (200, b"<html>"), (200, b"{}"), (200, b'{"choices":[]}')]
)
def test_a_judge_that_is_broken_for_a_moment_is_asked_again(server: Server, tmp_path: Path, reply: Reply) -> None:
    server.behave = lambda number: reply if number < judging.ATTEMPTS else good("70")
    assert ask(Judge(settings(server.url), tmp_path / "cache.jsonl")) == "70"


def test_a_judge_that_stays_broken_is_one_line_and_what_it_said_is_kept(server: Server, tmp_path: Path) -> None:
    server.behave = lambda number: good("70") if number == 1 else (500, b"oops")
    judge = Judge(settings(server.url), tmp_path / "cache.jsonl")
    ask(judge)
    with pytest.raises(UserError, match=r"evaluate_instruct\.judge: http\S+ must answer, got HTTP 500; correct url"):
        ask(judge, "damp")
    assert len(server.requests) == 1 + judging.ATTEMPTS
    assert len((tmp_path / "cache.jsonl").read_text().splitlines()) == 1


def test_a_judge_that_is_too_slow_is_given_up(server: Server, tmp_path: Path) -> None:
    def slowly(number: int) -> Reply:
        time.sleep(0.5)
        return good("70")

    server.behave = slowly
    with pytest.raises(UserError, match=r"must answer, got .*timed out"):
        ask(Judge(settings(server.url, timeout_seconds=0.05), tmp_path / "cache.jsonl"))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_judge_that_refuses_is_asked_once(server: Server, tmp_path: Path, status: int) -> None:
    server.behave = lambda number: (status, b"no")
    with pytest.raises(UserError, match=f"got HTTP {status}; .*set {KEY_VARIABLE}"):
        ask(Judge(settings(server.url), tmp_path / "cache.jsonl"))
    assert len(server.requests) == 1


def test_a_judge_that_is_not_there_is_one_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must answer, got .*refused"):
        ask(Judge(settings("http://127.0.0.1:1/v1"), tmp_path / "cache.jsonl"))


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
        ("101", None),
    ],
)
def test_a_score_is_exactly_one_number_up_to_100(reply: str, score: int | None) -> None:
    assert parse_score(reply) == score
