"""Phone messages from a grammar, labelled ham or spam, each with its exact p(spam | text).

In this world, whoever wants coins before the goods is a cheat. Much of the spam can be recognised by its words, and
much only by the order of the same words. A few texts are ambiguous, and some messages are sent again, unchanged or
with small changes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from llmcore.base.seeds import numpy_generator
from llmcore.data.world.grammar import Grammar, Lines, drawing
from llmcore.data.world.lexicon import FUNCTIONS, LEXICON

P_SPAM = {"ham": 0.0, "spam": 1.0, "even": 0.5, "dubious": 0.3}  # by the last rule of a message
REPEATED_SHARE = 0.04  # of the messages: copies of an earlier one
RETOUCHED_SHARE = 0.04  # of the messages: copies with small changes

RULES: Mapping[str, Lines] = {
    "message": {
        # the order of the words decides: 23 in 100
        "You get {goods}{when} before you send {:price} coins{when}.{ham}": 3,
        "You send {:price} coins{when} before you get {goods}{when}.{spam}": 3,
        "You will get {goods}{when} after you send {:price} coins{when}.{spam}": 2,
        "You will send {:price} coins{when} after you get {goods}{when}.{ham}": 3,
        "First you get {goods}{when}, then you send {:price} coins{when}.{ham}": 4,
        "First you send {:price} coins{when}, then you get {goods}{when}.{spam}": 3,
        "Do not send {:price} coins{when}, come to the {:place}{when}.{ham}": 3,
        "Do not come to the {:place}{when}, send {:price} coins{when}.{spam}": 2,
        # the words decide
        "Hello {A:name}, {friendly}{ham}": 20,
        "Are you free on {:day}? {plan}{ham}": 8,
        "Thank you for the {:food}. {plan}{ham}": 8,
        "I found your {:colour} {:thing} {:spot}. {plan}{ham}": 7,
        "My {:animal} is {:mood}. Please come home{when}.{ham}": 5,
        "Where are you? I am at the {:place} and {:mood}.{ham}": 6,
        "I sent you {:price} coins{when} for the {:food}.{ham}": 4,
        "You won a {:colour} {:thing}! {hurry}{spam}": 5,
        "Free {:food} for you! {hurry}{spam}": 2,
        "Somebody has your {:thing}. {hurry}{spam}": 2,
        "We have {:price} coins for you. {hurry}{spam}": 4,
        # ambiguous
        "Please call {:name} at the {:place}{when}.{even}": 2,
        "Your {:few} {:food} are waiting at the {:place}.{dubious}": 2,
        "Do you want {goods}{when}?{even}": 2,
    },
    "goods": {"the {:colour} {:thing}": 3, "some {:food}": 1},
    "when": {" today": 3, " tonight": 2, " tomorrow": 3, " at once": 2, " at noon": 2},
    "friendly": {
        "can you lend me your {:thing}{when}?": 2,
        "I am at the {:place} with {B:name}.": 2,
        "did you {:job}?": 2,
        "please {:job}{when}.": 2,
        "you left your {:thing} {:spot}.": 2,
        "we won at the {:place}! Come{when}.": 1,
    },
    "plan": {
        "Come to the {:place}{when}.": 3,
        "I will {:job}{when}.": 2,
    },
    "hurry": {
        "Just send {:price} coins{when}.": 3,
        "Call the {:place}{when}.": 2,
        "Come to the {:place}{when}.": 1,
    },
} | {verdict: [""] for verdict in P_SPAM}

MESSAGES = Grammar(RULES, LEXICON, FUNCTIONS)


@dataclass(frozen=True)
class Message:
    """A text, its label ("ham" or "spam"), and p_spam = p(spam | text), with which the label was drawn."""

    text: str
    label: str
    p_spam: float


def write_messages(count: int, seed: int) -> list[Message]:
    """Return `count` messages; the same arguments give the same messages. Each copy has a label drawn for itself."""
    rng = numpy_generator(seed, "messages")
    texts: list[tuple[str, float]] = []
    for _ in range(count):
        texts.append(_next_text(texts, rng))
    return [Message(text, "spam" if rng.random() < p_spam else "ham", p_spam) for text, p_spam in texts]


def ceiling(messages: Iterable[Message]) -> float:
    """Return the expected accuracy of the best possible classifier on these texts."""
    return float(np.mean([max(message.p_spam, 1 - message.p_spam) for message in messages]))


def _next_text(earlier: list[tuple[str, float]], rng: np.random.Generator) -> tuple[str, float]:
    fate = rng.random()
    if not earlier or fate >= REPEATED_SHARE + RETOUCHED_SHARE:
        derivation = MESSAGES.expand("message", drawing(rng))
        return derivation.text, P_SPAM[derivation.rules[-1]]
    text, p_spam = earlier[rng.integers(len(earlier))]
    return (text if fate < REPEATED_SHARE else _retouch(text, rng)), p_spam


def _retouch(text: str, rng: np.random.Generator) -> str:
    """Change upper and lower case or the end of a text, not its meaning."""
    return [text.upper(), text.lower(), text + "!", text + " :)"][rng.integers(4)]
