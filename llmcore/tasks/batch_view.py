"""A training batch for the eye: each token, and whether it is a target, only read, or padding."""

from typing import NamedTuple

TARGET = "target"
MASKED = "masked"
PADDING = "padding"


class Piece(NamedTuple):
    """A token's text and its role in training."""

    text: str
    kind: str


class RowView(NamedTuple):
    title: str
    pieces: list[Piece]
