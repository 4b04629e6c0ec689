"""Prepare spam. in: data/raw/spam | params: seed, spam | out: data/spam (splits, meta), metrics, tables (audit)."""

from llmcore.data.spam import prepare_messages
from llmcore.run.prepare import prepare


def main(argv: list[str]) -> None:
    prepare(
        "prepare_spam",
        argv,
        "spam",
        lambda raw, meta, params: prepare_messages(raw, meta, params.spam, params.seed),
    )
