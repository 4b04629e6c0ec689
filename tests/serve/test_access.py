"""Who may ask: with a key whoever sends it, without one only this machine, and no page from elsewhere."""

from typing import Any

import httpx2
import openai
import pytest
from serve.endpoint import Endpoint, running

from llmcore.base.errors import UserError
from llmcore.serve.access import is_loopback, loopback_hosts
from llmcore.serve.limits import Limits
from llmcore.serve.models import ServedModel
from llmcore.serve.server import KEY_VARIABLE, api_key, listening, serve

KEY = "0123456789abcdef-key"


def test_key_is_required_where_there_is_one(served_models: dict[str, ServedModel]) -> None:
    with running(served_models, api_key=KEY, hosts=()) as endpoint:
        assert [model.id for model in endpoint.client(api_key=KEY).models.list()] == list(served_models)
        for wrong in ("none", KEY[:-1], KEY + "0", "é"):
            sent = {b"Authorization": f"Bearer {wrong}".encode()}
            found = httpx2.get(f"{endpoint.url}/v1/models", headers=sent)
            assert found.status_code == 401
            assert found.json()["error"]["code"] == "invalid_api_key"
            assert KEY not in found.text
        with pytest.raises(openai.AuthenticationError):
            endpoint.client(api_key="none").completions.create(model="story", prompt="a")
        assert httpx2.get(f"{endpoint.url}/v1/models").status_code == 401
        assert httpx2.get(f"{endpoint.url}/nothing").status_code == 401
        basic = httpx2.get(f"{endpoint.url}/v1/models", headers={"Authorization": f"Basic {KEY}"})
        assert basic.status_code == 401
        assert httpx2.get(f"{endpoint.url}/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:{port}"}, 200),
        ({"Host": "LOCALHOST:{port}"}, 200),
        ({"Host": "[::1]:{port}"}, 200),
        ({"Host": "example.org:{port}"}, 403),
        ({"Host": "127.0.0.1:1"}, 403),
        ({"Host": "127.0.0.1"}, 403),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "http://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
    ],
)
def test_pages_from_elsewhere_are_refused(endpoint: Endpoint, headers: dict[str, str], status: int) -> None:
    port = endpoint.url.rpartition(":")[2]
    sent = {name: value.format(port=port) for name, value in headers.items()}
    for path in ("/v1/models", "/health"):
        found = httpx2.get(endpoint.url + path, headers=sent)
        assert found.status_code == status
        assert not [name for name in found.headers if name.startswith("access-control")]


def test_loopback_is_what_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "localhost", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org", "")))
    assert "127.0.0.1" in loopback_hosts("127.0.0.1", 80)
    assert "[::1]:8000" in loopback_hosts("::1", 8000)


# ---- the command


def start(**changes: Any) -> None:
    options: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "limits": Limits(),
        "needs_key": False,
        "precision": "fp32",
    }
    serve([], **(options | changes))


@pytest.mark.parametrize("value", ["", "short", "é" * 20, "0123456789 abcdef"])
@pytest.mark.parametrize("options", [{"host": "0.0.0.0"}, {"needs_key": True}])
def test_server_that_needs_a_key_does_not_start_without(
    options: dict[str, Any], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, value)
    with pytest.raises(UserError, match="LLMCORE_API_KEY: must hold the key, at least 16") as raised:
        start(**options)
    assert value == "" or value not in str(raised.value)


def test_key_comes_from_the_environment_as_it_is() -> None:
    assert api_key(KEY) == KEY


def test_address_that_cannot_be_used_is_one_line() -> None:
    with listening("127.0.0.1", 0) as taken, pytest.raises(UserError, match="cannot be used"):
        start(port=taken.getsockname()[1])
    with pytest.raises(UserError, match="--port: must be from 0"):
        start(port=70_000)
    for host in ("no.such.host.invalid", "a..b"):
        with pytest.raises(UserError, match=r"cannot be used \(.+\); choose another host or port"):
            listening(host, 0)


def test_options_without_room_are_refused() -> None:
    with pytest.raises(UserError, match="--max-rows: must be positive, got 0"):
        start(limits=Limits(max_rows=0))
