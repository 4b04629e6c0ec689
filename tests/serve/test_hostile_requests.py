"""Requests that are wrong, too large or absurd get an error in OpenAI's form, and the others right answers."""

import json
import socket
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serve.endpoint import LIMITS, Endpoint

COMPLETION = {"model": "story", "prompt": "The brown fox", "temperature": 0, "max_tokens": 3}
CHAT = {"model": "helper", "messages": [{"role": "user", "content": "Where is the fox?"}], "max_tokens": 3}
CLASSIFY = {"model": "sorter", "input": "The brown fox"}
VALID: dict[str, Any] = {"/v1/completions": COMPLETION, "/v1/chat/completions": CHAT, "/classify": CLASSIFY}


def error(found: httpx2.Response, status: int) -> dict[str, Any]:
    """Return the error of an answer, which has OpenAI's form."""
    assert found.status_code == status, found.text
    [(key, body)] = found.json().items()
    assert key == "error"
    assert body.keys() == {"message", "type", "param", "code"}
    assert "Traceback" not in found.text
    assert "\n" not in body["message"]
    return body


def refusal(endpoint: Endpoint, path: str, status: int = 400, **changes: Any) -> str:
    """Return the message with which a changed request is refused; it names the field that was changed."""
    found = error(endpoint.post(path, VALID[path] | changes), status)
    assert found["param"].split(".")[0] in changes
    return found["message"]


@pytest.mark.parametrize("path", VALID)
def test_unknown_fields_are_refused_by_name(endpoint: Endpoint, path: str) -> None:
    assert refusal(endpoint, path, tools=[]) == "tools: is not supported; leave it out"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", True),
        ("n", 0),
        ("n", 129),
        ("n", LIMITS.max_rows + 1),
        ("n", 1.5),
        ("max_tokens", 0),
        ("max_tokens", LIMITS.max_tokens + 1),
        ("seed", 2**63),
        ("seed", "one"),
        ("stop", [""]),
        ("stop", ["a"] * 17),
        ("stop", "a" * 257),
        ("frequency_penalty", 2.1),
        ("presence_penalty", -3),
        ("repetition_penalty", 1e300),
        ("repetition_penalty", 0),
        ("logit_bias", {"5": 3}),
        ("logit_bias", {"five": -100}),
        ("logit_bias", {"99999": -100}),
        ("logit_bias", {str(token): -100 for token in range(290)}),
        ("stream_options", {"include_obfuscation": True}),
        ("top_k", -1),
        ("min_p", 2),
        ("prompt_lookup_num_tokens", 65),
    ],
)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_settings_out_of_range_are_refused_by_name(endpoint: Endpoint, path: str, field: str, value: Any) -> None:
    assert field in refusal(endpoint, path, **{field: value})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": []}, "must be a text, a list of texts"),
        ({"prompt": [[]]}, "must be a text, a list of texts"),
        ({"prompt": ["a", 1]}, "must be a text, a list of texts"),
        ({"prompt": [True]}, "must be a text, a list of texts"),
        ({"prompt": [-1]}, "must be ids from 0 to"),
        ({"prompt": [10**30]}, "must be ids from 0 to"),
        ({"prompt": [1] * 256}, "must have 1 to 255 tokens, got 256"),
        ({"prompt": ["a"] * 33}, "at most 32, got 33 times 1"),
        ({"prompt": "a" * 4001}, "at most 4000 characters"),
        ({"logprobs": 21}, "must be from 0 to 20"),
        ({"echo": True}, "input should be False"),
    ],
)
def test_prompts_that_cannot_be_continued_are_refused(endpoint: Endpoint, changes: Any, said: str) -> None:
    assert said in refusal(endpoint, "/v1/completions", **changes)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "at least 1 item"),
        ([{"role": "assistant", "content": "Hello"}], "the last one must be the user's"),
        ([{"role": "user", "content": "  "}], "must not be empty"),
        ([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], "must be the first"),
        ([{"role": "tool", "content": "a"}], "'system', 'developer', 'user' or 'assistant'"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "text"),
        ([{"role": "user", "content": "a", "name": "Anna"}], "is not supported"),
        ([{"role": "user", "content": "a"}] * 513, "at most 512, got 513"),
        ([{"role": "user", "content": "a" * 4001}], "at most 4000 characters"),
    ],
)
def test_chats_that_cannot_be_answered_are_refused(endpoint: Endpoint, messages: Any, said: str) -> None:
    assert said in refusal(endpoint, "/v1/chat/completions", messages=messages)


def test_last_message_that_fills_the_context_is_refused(endpoint: Endpoint) -> None:
    messages = [{"role": "user", "content": "fox " * 500}]
    found = error(endpoint.post("/v1/chat/completions", CHAT | {"messages": messages}), 400)
    assert "with the last one" in found["message"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"input": []}, "at least 1 item"), ({"input": ""}, "must not be empty"), ({"input": ["a"] * 257}, "at most 256")],
)
def test_texts_that_cannot_be_classified_are_refused(endpoint: Endpoint, changes: Any, said: str) -> None:
    assert said in refusal(endpoint, "/classify", **changes)


@pytest.mark.parametrize("path", VALID)
def test_unknown_model_is_not_found_and_another_kind_refused(endpoint: Endpoint, path: str) -> None:
    assert "must be one of story, helper, sorter" in refusal(endpoint, path, 404, model="gpt-5")
    other = "story" if path == "/classify" else "sorter"
    assert "is of kind" in refusal(endpoint, path, model=other)


@pytest.mark.parametrize("path", VALID)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"model": "story", "prompt": "\xff"}',
        rb'{"model": "story", "prompt": "\ud800", "input": "\ud800"}',
        b"[" * 60_000,
        b'{"model": ' + b"9" * 50_000 + b"}",
        b'{"model": "story", "prompt": "a", "temperature": NaN}',
        b'{"model": "story", "prompt": "a", "temperature": 1e999}',
    ],
)
def test_bodies_that_are_no_request_are_refused(endpoint: Endpoint, path: str, body: bytes) -> None:
    error(endpoint.post(path, body), 400)


def test_large_bodies_are_refused_also_where_their_length_is_not_announced(endpoint: Endpoint) -> None:
    large = json.dumps(COMPLETION | {"prompt": "a" * 10**6}).encode()
    assert "at most 65536 bytes" in error(endpoint.post("/v1/completions", large), 413)["message"]

    def endless() -> Any:
        yield from (b" " * 10_000 for _ in range(20))

    error(httpx2.post(f"{endpoint.url}/v1/completions", content=endless()), 413)


def test_unknown_paths_and_methods_have_the_form_of_errors(endpoint: Endpoint) -> None:
    error(endpoint.post("/v1/embeddings", {}), 404)
    error(httpx2.get(f"{endpoint.url}/v1/completions"), 405)
    error(httpx2.get(f"{endpoint.url}/v1/models/gpt-5"), 404)


def test_bytes_that_are_no_http_leave_the_server_as_it_is(endpoint: Endpoint) -> None:
    host, _, port = endpoint.url.removeprefix("http://").partition(":")
    for sent in (b"\x00\xff" * 100, b"GET / HTTP/9\r\n\r\n", b"POST /classify HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
            connection.recv(1000)
    assert endpoint.post("/v1/completions", COMPLETION).status_code == 200


# ---- any value in any field

NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 1e300, 1e-300, 2**63, True])
VALUES = st.recursive(
    st.none() | NUMBERS | st.text(max_size=20),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
    max_leaves=5,
)
FIELDS = (
    "model prompt messages input n max_tokens max_completion_tokens temperature top_p top_k min_p seed stop stream "
    "stream_options logprobs top_logprobs logit_bias frequency_penalty presence_penalty repetition_penalty user echo "
    "prompt_lookup_num_tokens best_of unknown"
).split()


@settings(max_examples=150, deadline=None)
@given(path=st.sampled_from(sorted(VALID)), changes=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3))
def test_no_value_of_a_field_breaks_the_server(endpoint: Endpoint, path: str, changes: dict[str, Any]) -> None:
    body = json.dumps(VALID[path] | changes).encode()
    found = endpoint.post(path, body)
    assert found.status_code in (200, 400, 404)
    if found.status_code != 200:
        error(found, found.status_code)
    elif not found.headers["content-type"].startswith("text/event-stream"):
        assert found.json()["model"] == VALID[path]["model"]
    assert all(worker.n_open == 0 for worker in endpoint.workers.values())
