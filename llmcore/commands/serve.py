"""`llmcore serve`: its options."""

import argparse

from llmcore.commands.options import add_precision
from llmcore.serve.limits import Limits
from llmcore.serve.server import serve


def add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    default, shown = Limits(), "(default: %(default)s)"
    command = commands.add_parser("serve", help="answer requests in OpenAI's form, at an address of this machine")
    folders = "models/pretrain or models/base, models/instruct and models/classifier, where they exist"
    command.add_argument("folders", nargs="*", metavar="FOLDER", help=f"of models (default: {folders})")
    command.add_argument("--host", default="127.0.0.1", help=f"another address than loopback needs a key {shown}")
    command.add_argument("--port", type=int, default=8000, help=f"0 takes a free one {shown}")
    command.add_argument("--api-key", action="store_true", help="ask for the key of LLMCORE_API_KEY on loopback, too")
    add_precision(command)
    command.add_argument(
        "--max-rows", type=int, default=default.max_rows, metavar="N", help=f"texts a model writes at a time {shown}"
    )
    command.add_argument(
        "--max-waiting", type=int, default=default.max_waiting, metavar="N", help=f"waiting requests per model {shown}"
    )
    command.add_argument(
        "--max-tokens", type=int, default=default.max_tokens, metavar="N", help=f"of a text that is written {shown}"
    )
    command.add_argument(
        "--max-seconds", type=float, default=default.max_seconds, metavar="S", help=f"of a request {shown}"
    )
    command.set_defaults(run=run_serve)


def run_serve(arguments: argparse.Namespace) -> None:
    limits = Limits(
        max_rows=arguments.max_rows,
        max_waiting=arguments.max_waiting,
        max_tokens=arguments.max_tokens,
        max_seconds=arguments.max_seconds,
    )
    serve(
        arguments.folders,
        host=arguments.host,
        port=arguments.port,
        limits=limits,
        needs_key=arguments.api_key,
        precision=arguments.precision,
    )
