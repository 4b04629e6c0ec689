"""Instructions about the world with checkable answers; the test holds combinations and phrasings kept from training."""

from dataclasses import dataclass

import numpy as np

from llmcore.data.world.grammar import Decide, Derivation, Grammar, drawing
from llmcore.data.world.lexicon import FUNCTIONS, LEXICON
from llmcore.seeds import derive, numpy_generator

VAL_SHARE = 0.05
TEST_SHARE = 0.15
NEW_PHRASING = 0.25  # share of test rows that ask in words never used in training


@dataclass(frozen=True)
class Kind:
    """Lines for the facts (one is drawn; none means no input), for asking, and for the answer.

    The last line of `ask` is kept for the test. The words of the variables in `combination` are never seen
    together in two splits; `ask` stands for the phrasing.
    """

    facts: tuple[str, ...]
    ask: tuple[str, ...]
    answer: str
    combination: tuple[str, ...]


RENAMED = "the facts with B in place of A"

TRADE = (
    "On {w:day} {A:name} {:traded} the {c:colour} {t:thing} for {n:price} coins at the {p:place}.",
    "{A:name} {:traded} the {c:colour} {t:thing} at the {p:place} for {n:price} coins on {w:day}.",
)

KINDS = {
    "who": Kind(TRADE, ("Who was it?", "Who was that?", "Say who it was.", "Tell me who it was."), "{A}", ("A", "t")),
    "colour": Kind(
        TRADE,
        ("What colour was it?", "What colour was the {t}?", "Say the colour.", "Tell me what colour it was."),
        "{c}",
        ("c", "t"),
    ),
    "what": Kind(
        TRADE,
        ("What was it?", "What was that?", "Say what it was.", "Tell me what it was."),
        "the {c} {t}",
        ("c", "t"),
    ),
    "when": Kind(
        TRADE,
        ("When was it?", "When was that?", "Say when it was.", "Tell me when it was."),
        "{w}",
        ("w", "t"),
    ),
    "where": Kind(
        TRADE,
        ("Where was it?", "Where was that?", "Say where it was.", "Tell me where it was."),
        "{p}",
        ("p", "t"),
    ),
    "price": Kind(
        TRADE,
        ("How much was it?", "How much was the {t}?", "Say how much it was.", "Tell me how much it was."),
        "{n} coins",
        ("n", "t"),
    ),
    "to do": Kind(
        ("Please {j:job}, do not {k:job}.", "Do not {k:job}, {j:job}."),
        ("What must I do?", "What must I do now?", "Say what I must do.", "Tell me what I must do."),
        "{j}",
        ("j", "k"),
    ),
    "sum": Kind(
        ("{A:name} had {m:few} {f:food} and got {n:few} more.",),
        ("How many {f} are there?", "How many {f} does {A} have?", "Count the {f}.", "Tell me how many {f} there are."),
        "{sum m n}",
        ("m", "n", "f"),
    ),
    "opposite": Kind(
        (),
        (
            "Say the opposite of {q:quality}.",
            "What is the opposite of {q:quality}?",
            "What is not {q:quality}?",
            "Tell me the opposite of {q:quality}.",
        ),
        "{opposite q}",
        ("ask", "q"),
    ),
    "other name": Kind(
        ("{A:name} has a {c:colour} {t:thing}.", "{A:name} went to the {t:place}."),
        ("Say it with {B:name}.", "Say it with {B:name} now.", "Write it with {B:name}.", "Tell it with {B:name}."),
        RENAMED,
        ("A", "B"),
    ),
}

WORLD = Grammar({}, LEXICON, FUNCTIONS)


@dataclass(frozen=True)
class Instruction:
    """A row in Alpaca form; `input` may be empty. A checkable answer is right if it equals `output`."""

    instruction: str
    input: str
    output: str
    kind: str
    checkable: bool
    split: str  # train, val or test


def write_instructions(count: int, seed: int) -> list[Instruction]:
    """Return `count` rows, no two alike in instruction and input; equal arguments, equal rows."""
    rng = numpy_generator(seed, "instructions")
    rows: dict[tuple[str, str], Instruction] = {}
    while len(rows) < count:
        row = _draw(list(KINDS)[rng.integers(len(KINDS))], rng)
        rows.setdefault((row.instruction, row.input), row)
    return list(rows.values())


def _draw(name: str, rng: np.random.Generator) -> Instruction:
    kind, decide = KINDS[name], drawing(rng)
    facts = WORLD.fill(_any(kind.facts, rng), decide) if kind.facts else WORLD.fill("", decide)
    phrasing = _any(kind.ask[:-1], rng)
    question = WORLD.fill(phrasing, decide, facts)
    split = _split(name, *(phrasing if variable == "ask" else question[variable] for variable in kind.combination))
    if split == "test" and rng.random() < NEW_PHRASING:
        question = WORLD.fill(kind.ask[-1], decide, facts)
    return Instruction(question.text, facts.text, _answer(kind, facts.text, question, decide), name, True, split)


def _any(lines: tuple[str, ...], rng: np.random.Generator) -> str:
    return lines[rng.integers(len(lines))]


def _answer(kind: Kind, facts: str, question: Derivation, decide: Decide) -> str:
    if kind.answer == RENAMED:
        return facts.replace(question["A"], question["B"])
    return WORLD.fill(kind.answer, decide, question).text


def _split(*combination: str) -> str:
    """Return the split of a combination of words: a hash, so that it is the same for every seed and count."""
    share = derive(0, "split", *combination) / 2**63
    return "test" if share < TEST_SHARE else "val" if share < TEST_SHARE + VAL_SHARE else "train"
