"""Prepare instructions. in: data/raw/instructions | params: seed, instructions
out: data/instructions (splits), metrics, tables (audit)."""

from llmcore.data.instructions import prepare_instructions
from llmcore.run.prepare import prepare


def main(argv: list[str]) -> None:
    prepare(
        "prepare_instructions",
        argv,
        "instructions",
        lambda raw, meta, params: prepare_instructions(raw, meta, params.instructions, params.seed),
    )
