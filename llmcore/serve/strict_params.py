"""Refuse the settings of a request that a served model does not know.

MLflow drops them and says so in the server's log alone: with `temprature` misspelled a request would be
answered under the default, as if all were well. No setting of MLflow 3.17 changes that, and a model never
sees what was dropped, so the function that drops it is wrapped.
"""

from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.types import ParamSchema

from llmcore.serve.decoding import Decoding

KNOWN = {field.name for field in fields(Decoding)}

Enforce = Callable[[Any, ParamSchema | None], Any]


def refuse_unknown_params() -> None:
    """Let MLflow answer 400 for unknown params of our models; others in this process are treated as ever."""
    pyfunc: Any = import_module("mlflow.pyfunc")  # as an attribute of mlflow it may be a stand-in that loads it later
    if pyfunc._enforce_params_schema.__module__ != __name__:
        pyfunc._enforce_params_schema = _strict(pyfunc._enforce_params_schema)


def _strict(enforce: Enforce) -> Enforce:
    def checked(params: Any, schema: ParamSchema | None) -> Any:
        is_ours = schema is not None and {param.name for param in schema.params} == KNOWN
        if is_ours and isinstance(params, dict) and (unknown := sorted(map(str, params.keys() - KNOWN))):
            rule = f"params must be of {', '.join(sorted(KNOWN))}, got {unknown[0]!r}"
            raise MlflowException.invalid_parameter_value(f"{rule}; correct it")
        return enforce(params, schema)

    return checked
