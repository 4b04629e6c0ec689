"""What went wrong, in OpenAI's form."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from llmcore.base.errors import UserError

MAX_MESSAGE_CHARACTERS = 600
MAX_VALUE_CHARACTERS = 60
RETRY_SECONDS = 1
GONE = 499  # nginx's status for a client that has gone: nobody reads it

_FIELD = re.compile(r"([a-z][a-z0-9_.]*): ")


class ApiError(Exception):
    """An answer that is an error: its HTTP status and the body that OpenAI's clients read."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        message = str(self)
        if len(message) > MAX_MESSAGE_CHARACTERS:
            message = message[:MAX_MESSAGE_CHARACTERS] + "..."
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}


def of_user_error(error: UserError) -> ApiError:
    """Return the error of a request that asks for something impossible."""
    message = str(error).replace("suppress_tokens", "logit_bias")  # as it was written
    found = _FIELD.match(message)
    return ApiError(400, message, param=found[1] if found else None)


def of_failure(error: Exception) -> ApiError:
    """Return the error of a request in which the model failed; no traceback leaves the process."""
    what = str(error) if isinstance(error, UserError) else f"the model failed with {type(error).__name__}"
    return ApiError(500, what, code="model_failed")


def busy(rule: str) -> ApiError:
    return ApiError(429, f"{rule}; try again later", code="busy", headers={"Retry-After": str(RETRY_SECONDS)})


def shutting_down() -> ApiError:
    return ApiError(503, "the server is shutting down", code="shutting_down")


def stopped(*models: str) -> ApiError:
    """Return the error of models whose threads have ended by a bug; the log has its traceback."""
    return ApiError(503, f"{', '.join(models)}: has stopped after an error; restart the server", code="model_stopped")


def of_validation(error: ValidationError) -> ApiError:
    """Return the error of the first field that is wrong."""
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return ApiError(400, f"body: must be JSON ({first['msg']})")
    name = ".".join(map(str, first["loc"])) or "body"
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"{name}: is not supported; leave it out", param=name, code="unsupported_parameter")
    if first["type"] == "missing":
        return ApiError(400, f"{name}: must be given", param=name, code="missing_required_parameter")
    value = repr(first["input"])
    shown = value if len(value) <= MAX_VALUE_CHARACTERS else value[:MAX_VALUE_CHARACTERS] + "..."
    rule = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{name}: {rule[:1].lower()}{rule[1:]}, got {shown}", param=name, code="invalid_value")
