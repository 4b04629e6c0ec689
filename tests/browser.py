"""A headless Chromium that a test drives over its DevTools protocol."""

import asyncio
import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

TIMEOUT_SECONDS = 60.0  # of a page on a busy machine


def chromium() -> str | None:
    """Return the browser's command, None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse):
        self._socket = socket
        self._number = 0

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            answer = json.loads((await self._socket.receive()).data)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    async def value(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = await self.send("Runtime.evaluate", expression=script, returnByValue=True)
        return result["result"].get("value")

    async def open(self, url: str) -> None:
        await self.send("Page.navigate", url="about:blank")  # another hash alone would not load the page anew
        await self.send("Page.navigate", url=url)

    async def text(self) -> str:
        return str(await self.value("document.body.innerText"))

    async def wait_for(self, script: str) -> Any:
        """Return the expression's value as soon as it is true; fail with the page's text after a minute."""
        end = time.monotonic() + TIMEOUT_SECONDS
        while not (value := await self.value(script)):
            assert time.monotonic() < end, f"{script} is never true in\n{await self.text()}"
            await asyncio.sleep(0.2)
        return value

    async def wait_for_text(self, *texts: str) -> None:
        for text in texts:
            await self.wait_for(f"document.body && document.body.innerText.includes({json.dumps(text)})")

    async def screenshot(self, file: Path) -> None:
        shot = await self.send("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def browsing(width: int = 1600, height: int = 1100) -> AsyncIterator[Page]:
    """Start the browser with one empty tab; it ends with the body."""
    command = chromium()
    assert command
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
        sizes = [f"--window-size={width},{height}", f"--user-data-dir={profile}"]
        process = subprocess.Popen([command, *options, *sizes, "about:blank"], stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr
            found = (re.search(r"ws://([\w.:]+)/", line) for line in process.stderr)
            address = next(match[1] for match in found if match)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://{address}/json") as tabs:
                    tab = next(each for each in await tabs.json() if each["type"] == "page")
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    yield Page(socket)
        finally:
            process.kill()
            process.communicate()
