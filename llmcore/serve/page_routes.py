"""The page at `/`, and what it asks beyond OpenAI's routes: the tokens of a text, attention, logit lens."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import Field
from starlette.requests import Request

from llmcore.base.text import checked_input
from llmcore.generate.inspect import inspect_attention, inspect_lens, inspect_tokens
from llmcore.page.one_file import ASSETS
from llmcore.serve.bodies import read_body, unless_gone
from llmcore.serve.errors import ApiError
from llmcore.serve.models import ServedModel
from llmcore.serve.openai_requests import Body, Fields, parse
from llmcore.serve.thread_queue import ThreadQueue

Inspect = Callable[..., dict[str, Any]]

MAX_TEXT_CHARACTERS = 100_000  # the tokens behind the context are cut off and counted
MAX_BODY_BYTES = 2**20
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",  # another version of the program has another page
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}


class InspectFields(Fields):
    """The body of /inspect and /inspect/lens."""

    model: str
    text: Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]


class AttentionFields(InspectFields):
    """The body of /inspect/attention; layer and head count from 0."""

    layer: int
    head: int


def router(find: Callable[[str], ServedModel], queue: ThreadQueue) -> APIRouter:
    """Return the routes of the page. `find` returns a language model by its id, `queue` has the thread that inspects.

    The page and its files, `/` and `/page/...`, must be readable without a key: the page asks for it.
    """
    routes = APIRouter()
    files = {path.name: path for path in ASSETS.iterdir() if path.suffix in MEDIA_TYPES}

    @routes.get("/")
    async def page() -> FileResponse:
        return await asset("index.html")

    @routes.get("/page/{name}")
    async def asset(name: str) -> FileResponse:
        if name not in files:
            raise ApiError(404, f"page: has no file {name[:60]!r}")
        return FileResponse(files[name], media_type=MEDIA_TYPES[files[name].suffix], headers=HEADERS)

    @routes.post("/inspect")
    async def tokens(request: Request) -> dict[str, Any]:
        return await inspected(request, await _read(InspectFields, request), inspect_tokens)

    @routes.post("/inspect/attention")
    async def attention(request: Request) -> dict[str, Any]:
        asked = await _read(AttentionFields, request)
        return await inspected(request, asked, inspect_attention, asked.layer, asked.head)

    @routes.post("/inspect/lens")
    async def lens(request: Request) -> dict[str, Any]:
        return await inspected(request, await _read(InspectFields, request), inspect_lens)

    async def inspected(request: Request, asked: InspectFields, inspect: Inspect, *more: int) -> dict[str, Any]:
        """Inspect a text beside those that are written."""
        served, text = find(asked.model), checked_input(asked.text, "text")
        work = queue.run(inspect, served.language_model, served.tokenizer, text, *more)
        return await unless_gone(request, work)

    return routes


async def _read(form: type[Body], request: Request) -> Body:
    return parse(form, await read_body(request, MAX_BODY_BYTES))
