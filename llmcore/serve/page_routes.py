"""The page at `/`, and what it asks beyond OpenAI's routes: the tokens of a text, attention, logit lens.

The page and its files, `/` and `/page/...`, hold no secret and must be readable without a key: the page asks for it.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, StringConstraints, ValidationError

from llmcore.base.errors import UserError
from llmcore.generate.inspect import inspect_attention, inspect_lens, inspect_tokens
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.transformer import LanguageModel
from llmcore.page.one_file import ASSETS
from llmcore.tokenizer.tokenizer import Tokenizer

MAX_TEXT_CHARACTERS = 100_000  # of which a context shows a part
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",  # another version of the program has another page
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARACTERS)]


class Opened(Protocol):
    """A model with its tokenizer."""

    @property
    def model(self) -> LanguageModel | SequenceClassifier: ...

    @property
    def tokenizer(self) -> Tokenizer: ...


class InspectRequest(BaseModel):
    model: str
    text: Text


class AttentionRequest(InspectRequest):
    layer: int
    head: int


Form = TypeVar("Form", bound=InspectRequest)


def router(models: Mapping[str, Opened]) -> APIRouter:
    """Return the routes of the page over `models`, by their ids."""
    routes = APIRouter()
    files = {path.name: path for path in ASSETS.iterdir() if path.suffix in MEDIA_TYPES}

    @routes.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return asset("index.html")

    @routes.get("/page/{name}", include_in_schema=False)
    def asset(name: str) -> FileResponse:
        if name not in files:
            raise HTTPException(404, f"no file {name!r}")
        return FileResponse(files[name], media_type=MEDIA_TYPES[files[name].suffix], headers=HEADERS)

    @routes.post("/inspect")
    def tokens(asked: Annotated[InspectRequest, Depends(_inspect_request)]) -> dict[str, Any]:
        """Return the tokens of a text with their probabilities and the likeliest alternatives."""
        return _answer(models, asked, inspect_tokens)

    @routes.post("/inspect/attention")
    def attention(asked: Annotated[AttentionRequest, Depends(_attention_request)]) -> dict[str, Any]:
        """Return where a head of a layer looks, both counted from 0."""
        return _answer(models, asked, inspect_attention, asked.layer, asked.head)

    @routes.post("/inspect/lens")
    def lens(asked: Annotated[InspectRequest, Depends(_inspect_request)]) -> dict[str, Any]:
        """Return the likeliest next tokens after each block."""
        return _answer(models, asked, inspect_lens)

    return routes


async def _inspect_request(request: Request) -> InspectRequest:
    return _parsed(InspectRequest, await request.body())


async def _attention_request(request: Request) -> AttentionRequest:
    return _parsed(AttentionRequest, await request.body())


def _parsed(form: type[Form], body: bytes) -> Form:
    """Read a body; where FastAPI would repeat what is wrong with it, also half a character, this names the field."""
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise HTTPException(400, f"{where}: {first['msg']}") from None


def _answer(
    models: Mapping[str, Opened], asked: InspectRequest, inspect: Callable[..., dict[str, Any]], *more: int
) -> dict[str, Any]:
    opened = models.get(asked.model)
    if opened is None:
        raise HTTPException(404, f"no model {asked.model!r}; GET /v1/models lists them")
    if not isinstance(opened.model, LanguageModel):
        raise HTTPException(400, f"{asked.model} is a classifier; ask a language model")
    try:
        return inspect(opened.model, opened.tokenizer, asked.text, *more)
    except UserError as error:
        raise HTTPException(400, str(error)) from None
