"""Instructions with checkable answers; the combinations and phrasings of the test never occur in training."""

from dataclasses import dataclass

import numpy as np

from llmcore.base.seeds import derive, numpy_generator
from llmcore.data.world.grammar import Decide, Derivation, Grammar, drawing
from llmcore.data.world.lexicon import FUNCTIONS, LEXICON

VAL_SHARE = 0.05
TEST_SHARE = 0.15
NEW_PHRASING_SHARE = 0.25  # of the test rows: those asked with a phrasing that training never uses


@dataclass(frozen=True)
class QuestionType:
    """Lines of the grammar for the facts, the question and the answer.

    The words bound to the variables in `combination` occur together in one split only. The variable `ask`
    stands for the phrasing; the first phrasing is always in training, so that training contains every fact
    that the test asks for.
    """

    facts: tuple[str, ...]  # one is drawn as the input
    ask: tuple[str, ...]  # one is drawn as the instruction; the last occurs in the test only
    answer: str
    combination: tuple[str, ...]
    bare_share: float = 0.0  # of the rows: without input, because the question alone says what is asked


RENAMED = "the facts with B in place of A"

QUESTION_TYPES = {
    "who has": QuestionType(
        (
            "{A:name} gave the {c:colour} {t:thing} to {B:name}.",
            "{B:name} took the {c:colour} {t:thing} from {A:name}.",
        ),
        (
            "Who has the {t}?",
            "Who has the {t} now?",
            "Say who has the {t}.",
            "Write who has the {t}.",
            "Show me who has the {t}.",
            "Tell me who has the {t}.",
        ),
        "{B}",
        ("t", "B"),
    ),
    "colour": QuestionType(
        ("{A:name} has a {c:colour} {t:thing}.", "{A:name} gave the {c:colour} {t:thing} to {B:name}."),
        (
            "What colour is the {t}?",
            "Which colour has the {t}?",
            "Say the colour of the {t}.",
            "Write the colour of the {t}.",
            "Tell me the colour of the {t}.",
            "Show me the colour of the {t}.",
        ),
        "{c}",
        ("t", "c"),
    ),
    "where": QuestionType(
        ("The {t:thing} is {s:spot}.", "{A:name} put the {t:thing} {s:spot}."),
        (
            "Where is the {t}?",
            "Where is the {t} now?",
            "Say where the {t} is.",
            "Show me where the {t} is.",
            "Tell me where the {t} is.",
            "Write where the {t} is.",
        ),
        "{s}",
        ("t", "s"),
    ),
    "given": QuestionType(
        (
            "{A:name} gave the {c:colour} {t:thing} to {B:name}.",
            "{B:name} took the {c:colour} {t:thing} from {A:name}.",
        ),
        (
            "What does {B} have?",
            "What does {B} have now?",
            "Write what {B} has.",
            "Show me what {B} has.",
            "Tell me what {B} has.",
            "Say what {B} has.",
        ),
        "the {c} {t}",
        ("B", "t"),
    ),
    "other name": QuestionType(
        ("{A:name} {k:done}.", "{A:name} has a {c:colour} {t:thing}.", "{A:name} went to the {p:place}."),
        ("Say it with {B:name}.", "Say it with {B:name} now.", "Write it with {B:name}.", "Tell it with {B:name}."),
        RENAMED,
        ("A", "B"),
    ),
    "first": QuestionType(
        ("{A:name} {j:done}, then {she A} {k:done}.", "First {A:name} {j:done}, then {she A} {k:done}."),
        (
            "What was done first?",
            "What did {A} do first?",
            "Which job was done first?",
            "Say what was done first.",
            "Write what was done first.",
            "Name what was done first.",
            "Tell me what was done first.",
            "Show me what was done first.",
        ),
        "{j}",
        ("j", "k"),
    ),
    "last": QuestionType(
        ("{A:name} {j:done}, then {she A} {k:done}.", "First {A:name} {j:done}, then {she A} {k:done}."),
        (
            "What was done last?",
            "What did {A} do last?",
            "Which job was done last?",
            "Say what was done last.",
            "Write what was done last.",
            "Name what was done last.",
            "Tell me what was done last.",
            "Show me what was done last.",
        ),
        "{k}",
        ("j", "k"),
    ),
    "to do": QuestionType(
        ("Do not {j:job}, {k:job}.", "Please {k:job}, do not {j:job}."),
        (
            "What must I do?",
            "What must I do now?",
            "Which job must I do?",
            "Say what I must do.",
            "Write what I must do.",
            "Name what I must do.",
            "Show me what I must do.",
            "Tell me what I must do.",
        ),
        "{k}",
        ("j", "k"),
    ),
    "sum": QuestionType(
        ("{A:name} had {m:few} {f:food} and got {n:few} more.",),
        (
            "How many {f} are there?",
            "How many {f} does {A} have?",
            "Count the {f}.",
            "Write how many {f} there are.",
            "Show me how many {f} there are.",
            "Tell me how many {f} there are.",
        ),
        "{sum m n}",
        ("m", "n", "f"),
    ),
    # There are few bare questions and no row occurs twice, so rows with an input have to teach the answers too
    "opposite": QuestionType(
        ("The {t:thing} is {q:quality}.", "{A:name} has a {q:quality} {t:thing}."),
        (
            "Say the opposite of {q}.",
            "What is the opposite of {q}?",
            "Give the opposite of {q}.",
            "Name the opposite of {q}.",
            "Show me the opposite of {q}.",
            "Which word is the opposite of {q}?",
            "Tell me the opposite of {q}.",
        ),
        "{opposite q}",
        ("ask", "q"),
        bare_share=0.6,
    ),
}

WORLD = Grammar({}, LEXICON, FUNCTIONS)


@dataclass(frozen=True)
class Instruction:
    """A row in Alpaca form."""

    instruction: str
    input: str  # may be empty
    output: str
    kind: str  # a key of QUESTION_TYPES
    checkable: bool  # an answer is correct only if it equals `output`
    split: str  # train, val or test


def write_instructions(count: int, seed: int) -> list[Instruction]:
    """Return `count` rows, no two with the same instruction and input; the same arguments give the same rows."""
    rng = numpy_generator(seed, "instructions")
    rows: dict[tuple[str, str], Instruction] = {}
    while len(rows) < count:
        row = _draw(list(QUESTION_TYPES)[rng.integers(len(QUESTION_TYPES))], rng)
        rows.setdefault((row.instruction, row.input), row)
    return list(rows.values())


def _draw(name: str, rng: np.random.Generator) -> Instruction:
    kind = QUESTION_TYPES[name]
    decide = drawing(rng)
    facts = WORLD.fill(_any(kind.facts, rng), decide)
    phrasing = _any(kind.ask[:-1], rng)
    question = WORLD.fill(phrasing, decide, facts)
    split = _split(name, *(phrasing if variable == "ask" else question[variable] for variable in kind.combination))
    if "ask" in kind.combination and phrasing == kind.ask[0]:
        split = "train"
    if split == "test" and rng.random() < NEW_PHRASING_SHARE:
        question = WORLD.fill(kind.ask[-1], decide, facts)
    given = "" if rng.random() < kind.bare_share else facts.text
    return Instruction(question.text, given, _answer(kind, facts.text, question, decide), name, True, split)


def _any(lines: tuple[str, ...], rng: np.random.Generator) -> str:
    return lines[rng.integers(len(lines))]


def _answer(kind: QuestionType, facts: str, question: Derivation, decide: Decide) -> str:
    if kind.answer == RENAMED:
        return facts.replace(question["A"], question["B"])
    return WORLD.fill(kind.answer, decide, question).text


def _split(*combination: str) -> str:
    """Return the split of a combination of words, from its hash: it depends neither on the seed nor on the count."""
    share = derive(0, "split", *combination) / 2**63
    return "test" if share < TEST_SHARE else "val" if share < TEST_SHARE + VAL_SHARE else "train"
