"""The page at `/` in a browser: it generates, chats, classifies and explains, and needs nothing but its server.

Screenshots go to the folder named by LLMCORE_SCREENSHOTS, if it is set.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from browser import Page, browsing, chromium
from page.looks import assert_readable, prefer, resize
from serve.endpoint import running
from tiny import classifier_of, generation

from llmcore.generate.decode import decode
from llmcore.generate.write import text_prompts
from llmcore.model.registry import new_model
from llmcore.serve.limits import Limits
from llmcore.serve.models import ServedModel

PANEL = "document.querySelector('section:not([hidden])')"
CLICK = f"[...{PANEL}.querySelectorAll('button')].find((each) => each.textContent === %r).click()"
TYPE = "((input) => { input.value = %s; input.dispatchEvent(new Event('input')); })(%s)"
STATUS = f"{PANEL}.querySelector('.status').textContent"
REPORT = """
globalThis.problems = [];
addEventListener("error", (event) => problems.push(event.message));
addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => problems.push(event.violatedDirective));
"""


@pytest.fixture
def models(config: Any, randomised: Any, tokenizer: Any) -> dict[str, ServedModel]:
    """One of each kind; texts may get so long that they can be stopped."""
    model = randomised(new_model(replace(config, context_length=4000)))
    classifier = randomised(classifier_of(config, labels=["ham", "not  ham", "spam"]))
    return {
        "story": ServedModel("story", "text", model, tokenizer, None, "models/story"),
        "helper": ServedModel("helper", "chat", model, tokenizer, "alpaca", "models/helper"),
        "sorter": ServedModel("sorter", "classifier", classifier, tokenizer, None, "models/sorter"),
    }


def visit(
    models: dict[str, ServedModel], tab: str, body: Callable[[Page], Awaitable[None]], key: str | None = None
) -> None:
    """Open a tab of the page and await `body`; nothing may go wrong in the page meanwhile."""

    async def look(address: str) -> None:
        async with browsing(1280, 900) as page:
            await page.send("Page.enable")
            await page.send("Page.addScriptToEvaluateOnNewDocument", source=REPORT)
            await page.open(f"{address}#{tab}")
            if key is None:
                await page.wait_for(f"!!{PANEL}")
            await body(page)
            loaded = await page.value("performance.getEntriesByType('resource').map(({ name }) => name)")
            assert [name for name in loaded if not name.startswith(address)] == []
            assert await page.value("problems") == []
            await take_pictures(page, tab)

    with running(models, Limits(), key) as endpoint:
        asyncio.run(look(f"{endpoint.url}/"))


async def take_pictures(page: Page, name: str) -> None:
    if folder := os.environ.get("LLMCORE_SCREENSHOTS"):
        for scheme, width in [("light", 1280), ("dark", 390)]:
            await prefer(page, scheme)
            await resize(page, width, 1800)
            await page.screenshot(Path(folder) / f"server-{name}-{scheme}-{width}.png")


async def fill(page: Page, text: str, field: str = "textarea") -> None:
    await page.value(TYPE % (json.dumps(text), f"{PANEL}.querySelector('{field}')"))


@pytest.mark.ui
@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
class TestInTheBrowser:
    def test_text_is_generated_as_decode_does(self, models: dict[str, ServedModel]) -> None:
        story = models["story"]
        prompt = text_prompts(story.tokenizer, ["Anna"]).ids
        settings = generation(max_new_tokens=8, temperature=0.0)
        [expected] = decode(story.language_model, prompt, settings, stop_ids=story.tokenizer.stop_ids)

        async def body(page: Page) -> None:
            await fill(page, "Anna")
            await fill(page, "0", "[id^=temperature]")
            await fill(page, "8", "[id^=max_new_tokens]")
            await page.value(CLICK % "Generate")
            await page.wait_for(f"/was reached|ended the text/.test({STATUS})")
            written = await page.value(f"{PANEL}.querySelector('textarea').value")
            assert written == "Anna" + story.tokenizer.decode(expected.ids)
            await page.value(f"{PANEL}.querySelectorAll('.chip')[2].click()")
            assert await page.value(f"{PANEL}.querySelectorAll('.details li').length") == 5
            await assert_readable(page)

        visit(models, "generate", body)

    def test_stop_stops_and_controls_work_at_once(self, models: dict[str, ServedModel]) -> None:
        n_chips = f"{PANEL}.querySelectorAll('.chip').length"

        async def body(page: Page) -> None:
            await fill(page, "0", "[id^=temperature]")
            await fill(page, "2000", "[id^=max_new_tokens]")
            before = await page.wait_for(n_chips)
            await page.value(CLICK % "Generate")
            await page.wait_for(f"{n_chips} > {before} + 3")
            await fill(page, "5", "[id^=max_new_tokens]")
            await page.wait_for(f"/was reached/.test({STATUS})")
            # characters and not chips: half a character is read again as three tokens
            assert await page.value(f"{PANEL}.querySelector('textarea').value.length") < 2000
            await fill(page, "2000", "[id^=max_new_tokens]")
            await page.value(CLICK % "Generate")
            await page.wait_for(f"!{PANEL}.querySelectorAll('button')[1].disabled")
            await page.value(CLICK % "Stop")
            await page.wait_for(f"{STATUS} === 'Stopped.'")

        visit(models, "generate", body)

    def test_a_chat_of_several_turns_is_begun_anew(self, models: dict[str, ServedModel]) -> None:
        async def body(page: Page) -> None:
            for turn, words in enumerate(["Say 12.", "And <b>then</b>?"], start=1):
                await fill(page, "6", "[id^=max_new_tokens]")
                await fill(page, words)
                await page.value(CLICK % "Send")
                await page.wait_for(
                    f"{PANEL}.querySelectorAll('.assistant').length === {turn} && !/Writing/.test({STATUS})"
                )
            said = await page.value(f"[...{PANEL}.querySelectorAll('.user .said')].map((each) => each.textContent)")
            assert said == ["Say 12.", "And <b>then</b>?"]
            await assert_readable(page)
            await page.value(CLICK % "New conversation")
            assert await page.value(f"{PANEL}.querySelectorAll('.message').length") == 0

        visit(models, "chat", body)

    def test_classes_come_with_their_probabilities(self, models: dict[str, ServedModel]) -> None:
        async def body(page: Page) -> None:
            await fill(page, "You won a kite")
            await page.value(CLICK % "Classify")
            await page.wait_for(f"{PANEL}.querySelectorAll('li').length === 3")
            shown = await page.value(f"[...{PANEL}.querySelectorAll('.bar-label')].map((each) => each.textContent)")
            assert sorted(shown) == ["ham", "not  ham", "spam"]
            await assert_readable(page)

        visit(models, "classify", body)

    def test_attention_and_lens_explain_a_text(self, models: dict[str, ServedModel]) -> None:
        async def body(page: Page) -> None:
            await page.value(f"{PANEL}.querySelectorAll('details').forEach((each) => {{ each.open = true; }})")
            await fill(page, "Anna had a red ball")
            await page.wait_for(f"/ball/.test({PANEL}.querySelector('.strip').textContent)")
            await page.wait_for(f"{PANEL}.querySelectorAll('.lens td').length > 8")
            before = await page.wait_for(f"{PANEL}.querySelector('details [role=status]').textContent")
            select = f"{PANEL}.querySelector('details select')"
            await page.value(f"{select}.selectedIndex = 1; {select}.dispatchEvent(new Event('change'))")
            await page.wait_for(f"{PANEL}.querySelector('details [role=status]').textContent !== {json.dumps(before)}")
            await assert_readable(page)

        visit(models, "explain", body)

    def test_arrow_keys_change_the_tab(self, models: dict[str, ServedModel]) -> None:
        async def body(page: Page) -> None:
            await page.value("document.querySelector('[role=tab]').focus()")
            await page.send("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft", code="ArrowLeft")
            assert await page.value("document.activeElement.textContent") == "Explain"
            assert await page.value("location.hash") == "#explain"

        visit(models, "generate", body)

    def test_a_key_is_asked_for_until_it_is_right(self, models: dict[str, ServedModel]) -> None:
        async def body(page: Page) -> None:
            for words, key in [("asks for its API key", "wrong"), ("refused this key", "secret")]:
                await page.wait_for_text(words)
                await page.value(f"document.querySelector('#key').value = {key!r}")
                await page.value("document.querySelector('dialog button').click()")
            await page.wait_for(f"!!{PANEL}")
            await page.wait_for(f"{PANEL}.querySelectorAll('.chip').length")

        visit(models, "generate", body, key="secret")


def test_requests_that_mean_nothing_are_refused_in_a_line(models: dict[str, ServedModel]) -> None:
    with running(models) as endpoint:
        for path, body, words in [
            ("inspect", b'{"model": "story", "text": "a\\ud800"}', "JSON"),
            ("inspect", b"\xff", "JSON"),
            ("inspect", json.dumps({"model": "story", "text": "x" * 100_001}).encode(), "text: "),
            ("inspect/lens", b'{"model": "other", "text": ""}', "got 'other'"),
            (
                "inspect/lens",
                b'{"model": "sorter", "text": ""}',
                "'sorter' is of kind 'classifier', and this needs 'text' or 'chat'; fitting ones here: story, helper",
            ),
            (
                "inspect/attention",
                b'{"model": "story", "text": "", "layer": 2, "head": 0}',
                "layer: must be from 0 to 1",
            ),
        ]:
            answer = requests.post(f"{endpoint.url}/{path}", data=body, timeout=20)
            assert answer.status_code in (400, 404, 413)
            assert words in answer.json()["error"]["message"]


def test_only_the_pages_files_are_given_and_none_may_load_from_elsewhere(models: dict[str, ServedModel]) -> None:
    with running(models) as endpoint:
        address = f"{endpoint.url}/"
        assert requests.get(address + "page/..%2Fone_file.py", timeout=20).status_code == 404
        for path in ("", "page/server_page.js", "page/style.css"):
            answer = requests.get(address + path, timeout=20)
            assert answer.status_code == 200
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "http" not in answer.text.replace("http-equiv", "")
