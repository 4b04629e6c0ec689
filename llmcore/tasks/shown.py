"""A training batch for the eye: each token, and whether it is learned, only read, or padding."""

from typing import NamedTuple

SUPERVISED, MASKED, PADDING = "supervised", "masked", "padding"


class Piece(NamedTuple):
    """A token's text and what it is in training."""

    text: str
    kind: str


class ShownRow(NamedTuple):
    title: str
    pieces: list[Piece]
