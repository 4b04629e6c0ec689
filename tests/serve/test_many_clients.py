"""Requests share a model's thread: each gets its own answer, whatever the others send, cut off or break."""

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx2
import openai
import psutil
import pytest
import torch
from serve.endpoint import LIMITS, Endpoint, gated, running
from waiting import comes_true

from llmcore.generate.prefixes import Prefixes
from llmcore.model.transformer import LanguageModel
from llmcore.serve import generation, scheduler
from llmcore.serve.limits import Limits
from llmcore.serve.models import ServedModel

LONG = {"model": "story", "prompt": "The brown fox", "temperature": 1.0, "seed": 1, "max_tokens": 60}


@pytest.fixture
def never(endpoint: Endpoint) -> dict[str, float]:
    """The bias with which a text does not end by itself."""
    return {str(endpoint.models["story"].tokenizer.end_of_text): -100}


class Clock:
    """Stands still until a test moves it."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time by which texts are cut."""
    clock = Clock()
    for module in (generation, scheduler):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_fifty_requests_at_once_get_what_each_gets_alone(endpoint: Endpoint) -> None:
    client = endpoint.client()
    words = "The brown fox sees a dog. A bird sings in the tree and sleeps.".split()

    def ask(number: int) -> Any:
        prompt = " ".join(words[: number % 11 + 1])
        options: dict[str, Any] = {"temperature": 0.9, "seed": number, "max_tokens": 5 + number % 20}
        if number % 3 == 0:
            messages: Any = [{"role": "user", "content": prompt}]
            return client.chat.completions.create(model="helper", messages=messages, **options).choices
        if number % 3 == 1:
            return client.completions.create(model="story", prompt=prompt, n=2, **options).choices
        chunks = client.completions.create(model="story", prompt=prompt, stream=True, **options)
        return "".join(choice.text for chunk in chunks for choice in chunk.choices)

    alone = [ask(number) for number in range(50)]
    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(ask, range(50))) == alone


def test_hostile_requests_change_nothing_for_those_beside_them(served_models: dict[str, ServedModel]) -> None:
    hostile = [
        json.dumps(LONG | {"prompt": "a" * 10**6}).encode(),
        json.dumps(LONG | {"prompt": "a" * 10**7}).encode(),
        json.dumps(LONG | {"prompt": "fox " * 40_000}).encode(),
        json.dumps(LONG | {"n": 10**9, "max_tokens": -1, "temperature": 1e300}).encode(),
        b'{"model": "story", "prompt": "\xff\xfe"}',
        b"[" * 10**6,
    ]
    with running(served_models, Limits()) as endpoint, ThreadPoolExecutor(16) as pool:
        expected = [endpoint.post("/v1/completions", LONG | {"seed": seed}).json()["choices"] for seed in range(12)]
        refused = [pool.submit(endpoint.post, "/v1/completions", body) for body in hostile * 4]
        answers = pool.map(lambda seed: endpoint.post("/v1/completions", LONG | {"seed": seed}), range(12))
        assert [answer.json()["choices"] for answer in answers] == expected
        assert {found.result().status_code for found in refused} == {400, 413}


def test_a_request_joins_while_another_is_written(endpoint: Endpoint, never: Any) -> None:
    """The short text is there while the long one, which began first, is being written."""
    with gated(endpoint.models["story"]) as gate, ThreadPoolExecutor(2) as pool:
        body = LONG | {"logit_bias": never}
        long = pool.submit(endpoint.post, "/v1/completions", body)
        gate.wait_for(passes=1)
        short = pool.submit(endpoint.post, "/v1/completions", body | {"max_tokens": 2})
        endpoint.wait_until_open("story", 2)
        gate.let(4)
        assert short.result().is_success
        assert not long.done()
        gate.open()
        assert long.result().is_success


def test_a_text_that_a_stop_string_ends_leaves_its_place_at_once(
    endpoint: Endpoint, never: Any, caplog: pytest.LogCaptureFixture
) -> None:
    body = LONG | {"logit_bias": never}
    text = endpoint.post("/v1/completions", body).json()["choices"][0]["text"]
    stopped = body | {"stop": text[2:4]}
    tokens = endpoint.post("/v1/completions", stopped).json()["usage"]["completion_tokens"]
    assert tokens < 20
    with gated(endpoint.models["story"]) as gate:
        gate.let(tokens + 1)  # the whole text has more
        assert endpoint.post("/v1/completions", stopped).is_success
        assert endpoint.wait_until_idle("story")
    assert caplog.records == []


# ---- clients that go away


@pytest.mark.parametrize("stream", [False, True])
def test_rows_of_a_client_that_has_gone_are_removed(endpoint: Endpoint, never: Any, stream: bool) -> None:
    for _ in range(3):
        with gated(endpoint.models["story"]) as gate:
            connection = endpoint.send("/v1/completions", LONG | {"stream": stream, "n": 3, "logit_bias": never})
            gate.wait_for(passes=1)
            if stream:
                gate.let(4)  # the first tokens may be less than a character
                assert connection.recv(100)
                gate.wait_for(passes=5)
            connection.close()
            endpoint.wait_until_cancelled("story")
            gate.let(3)  # the texts have 60 tokens
            assert endpoint.wait_until_idle("story")


def test_body_that_is_cut_off_leaves_nothing(endpoint: Endpoint) -> None:
    with endpoint.connect() as connection:
        host = endpoint.url.removeprefix("http://")
        connection.sendall(f"POST /classify HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\n{{".encode())
    assert endpoint.post("/v1/completions", LONG).is_success


# ---- limits


def test_requests_beyond_those_that_may_wait_are_told_to_try_again(served_models: dict[str, ServedModel]) -> None:
    limits = replace(LIMITS, max_rows=1, max_waiting=2)
    with running(served_models, limits) as endpoint, ThreadPoolExecutor(9) as pool:
        with gated(served_models["story"]) as gate:
            begun = pool.submit(endpoint.post, "/v1/completions", LONG)
            gate.let(4)
            gate.wait_for(passes=5)
            others = [pool.submit(endpoint.post, "/v1/completions", LONG) for _ in range(8)]
            assert comes_true(lambda: sum(answer.done() for answer in others) == 6)
            refused = [answer.result() for answer in others if answer.done()]
        assert all(answer.status_code == 429 for answer in refused)
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        assert all(answer.json()["error"]["code"] == "busy" for answer in refused)
        assert begun.result().is_success
        assert sum(answer.result().is_success for answer in others) == 2


def test_text_is_cut_when_time_is_up_and_says_so(
    served_models: dict[str, ServedModel], never: Any, clock: Clock
) -> None:
    limits = replace(LIMITS, max_rows=1, max_seconds=100)
    with running(served_models, limits) as endpoint, ThreadPoolExecutor(2) as pool:
        with gated(served_models["story"]) as gate:
            found = [pool.submit(endpoint.post, "/v1/completions", LONG | {"logit_bias": never}) for _ in range(2)]
            endpoint.wait_until_open("story", 2)
            gate.let(3)
            gate.wait_for(passes=4)
            clock.seconds += 101
        answers = sorted((answer.result() for answer in found), key=lambda answer: answer.status_code)
        cut, waited = (answer.json() for answer in answers)
        assert [answer.status_code for answer in answers] == [200, 503]
        assert cut["choices"][0]["finish_reason"] == "length"
        assert cut["choices"][0]["llmcore_finish_reason"] == "timeout"
        assert 0 < cut["usage"]["completion_tokens"] <= 4
        assert waited["error"]["code"] == "timeout"  # for the row of the other
        assert endpoint.wait_until_idle("story")


# ---- models that fail


@contextmanager
def broken(model: LanguageModel, error: Callable[[], Any]) -> Iterator[None]:
    hook = model.lm_head.register_forward_hook(lambda *_: error())
    try:
        yield
    finally:
        hook.remove()


def fail() -> None:
    raise RuntimeError("a secret of the code")


@pytest.mark.parametrize(
    ("error", "said"),
    [(fail, "the model failed with RuntimeError"), (lambda: torch.full((1, 290), torch.nan), "must be finite")],
)
def test_failing_model_ends_the_request_and_the_next_is_answered(
    endpoint: Endpoint, error: Callable[[], Any], said: str
) -> None:
    with broken(endpoint.models["story"].language_model, error):
        for stream in (False, True):
            found = endpoint.post("/v1/completions", LONG | {"stream": stream})
            assert found.status_code == 500
            assert said in found.json()["error"]["message"]
            assert "secret" not in found.text
    assert endpoint.post("/v1/completions", LONG).is_success
    assert endpoint.wait_until_idle("story")


def test_stream_that_breaks_ends_with_an_error(endpoint: Endpoint, never: Any) -> None:
    client = endpoint.client()
    with gated(endpoint.models["story"]) as gate:
        gate.let(4)  # the first tokens may be less than a character
        chunks = client.completions.create(**LONG, logit_bias=never, stream=True)
        next(iter(chunks))
        with broken(endpoint.models["story"].language_model, fail):
            gate.open()
            with pytest.raises(openai.APIError, match="RuntimeError"):
                list(chunks)
    assert endpoint.post("/v1/completions", LONG).is_success


def test_requests_that_wait_survive_the_failure_of_others(served_models: dict[str, ServedModel]) -> None:
    limits = replace(LIMITS, max_rows=1)
    failing = iter([False] * 5 + [True])  # in the fourth step, when all have come

    def once() -> None:
        if next(failing, False):
            fail()

    with running(served_models, limits) as endpoint, ThreadPoolExecutor(4) as pool:
        expected = endpoint.post("/v1/completions", LONG).json()["choices"]
        story = served_models["story"]
        with broken(story.language_model, once):
            with gated(story):
                waiting = [pool.submit(endpoint.post, "/v1/completions", LONG) for _ in range(4)]
                endpoint.wait_until_open("story", 4)
            found = [answer.result() for answer in waiting]
    assert sorted(answer.status_code for answer in found) == [200, 200, 200, 500]
    assert all(answer.json()["choices"] == expected for answer in found if answer.is_success)


@pytest.mark.parametrize("gone", [False, True])
def test_row_that_cannot_be_removed_stops_nobody_else(
    endpoint: Endpoint, never: Any, clock: Clock, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is up, or the client has gone: its row is removed beside the steps."""
    body = LONG | {"prompt": "The brown fox sees a dog.", "logit_bias": never}
    with monkeypatch.context() as patch:
        patch.setattr(Prefixes, "keep", lambda *_: fail())
        with gated(endpoint.models["story"]) as gate:
            connection = endpoint.send("/v1/completions", body)
            gate.let(4)
            gate.wait_for(passes=5)
            if gone:
                connection.close()
                endpoint.wait_until_cancelled("story")
            else:
                clock.seconds += LIMITS.max_seconds + 1
            gate.let(2)
            assert endpoint.wait_until_idle("story")
        if not gone:
            with connection:
                assert b'"llmcore_finish_reason":"timeout"' in connection.recv(10_000)
    assert endpoint.post("/v1/completions", LONG | {"max_tokens": 2}).is_success


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_model_whose_thread_has_ended_says_so(
    served_models: dict[str, ServedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(served_models) as endpoint:
        monkeypatch.setattr("llmcore.serve.scheduler.Decoder", lambda *_: fail())  # not even a new one helps
        with broken(served_models["story"].language_model, fail):
            first = endpoint.post("/v1/completions", LONG)
        for answer in (first, endpoint.post("/v1/completions", LONG), httpx2.get(f"{endpoint.url}/health")):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "model_stopped"
            assert answer.json()["error"]["message"] == "story: has stopped after an error; restart the server"
        assert endpoint.post("/v1/completions", LONG | {"model": "helper"}).is_success


# ---- memory


@pytest.mark.slow
def test_a_thousand_requests_leave_no_memory_behind(endpoint: Endpoint, never: Any) -> None:
    process = psutil.Process()

    async def ask(client: httpx2.AsyncClient, number: int) -> None:
        body = LONG | {"prompt": f"The fox {number}", "max_tokens": 8, "stream": number % 2 == 0}
        if number % 5 == 0:  # goes away
            long = {"max_tokens": 60, "n": 8, "logit_bias": never}
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.post("/v1/completions", json=body | long), 0.02)
        else:
            assert (await client.post("/v1/completions", json=body)).is_success

    async def ask_many(numbers: range) -> None:
        async with httpx2.AsyncClient(base_url=endpoint.url, timeout=30) as client:
            for begin in numbers[::20]:
                await asyncio.gather(*(ask(client, number) for number in range(begin, begin + 20)))

    asyncio.run(ask_many(range(200)))
    gc.collect()
    before = process.memory_info().rss
    asyncio.run(ask_many(range(200, 1200)))
    gc.collect()
    assert endpoint.wait_until_idle("story")
    assert process.memory_info().rss - before < 20 * 2**20
