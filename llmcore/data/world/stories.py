"""Short stories drawn from a grammar, each with its exact -ln p: no model's expected loss is lower."""

from collections.abc import Iterator
from dataclasses import dataclass

from llmcore.base.seeds import numpy_generator
from llmcore.data.world.grammar import Grammar, Lines, drawing
from llmcore.data.world.lexicon import FUNCTIONS, LEXICON

RULES: dict[str, Lines] = {
    "story": ["{A:name} and {B:name}{title}"],
    "title": {
        " at school. {lesson} {lesson}": 5,
        ". {opening} {went} the {p:place}{company}{scene}{close}": 3,
        " and the {c:colour} {t:thing}. {opening} {went} the {p:place}{company}{thing_scene}{close}": 3,
    },
    # A question, what is known, and the answer in as few words as possible. The words around them are those of the
    # Alpaca prompt too: so the tokenizer learns them, and a prompt is two thirds as long
    "lesson": {
        'The {:mood} {:animal} asked: "{task}," said {A}.': 3,
        'Tell me, said the {:animal}: "{task}," said {A}.': 1,
        'Below is the task that the {:animal} describes: "{task}," completes {A}.': 2,
        'Write an instruction with a response: "{task}," said {A} appropriately.': 2,
        'A request that {A} completes: "{task}," is the response.': 2,
    },
    "task": {
        "Who has the {t:thing}? {C:name} {moved}": 3,
        'What colour is the {t:thing}? {C:name} has a {c:colour} {t}." "{c}': 2,
        'Where is the {t:thing}? The {t} is {s:spot}." "{s}': 2,
        'What does {C:name} have? {D:name} gave the {c:colour} {t:thing} to {C}." "the {c} {t}': 2,
        'What was done first? {C:name} {j:done}, then {she C} {k:done}." "{j}': 3,
        'What was done last? {C:name} {j:done}, then {she C} {k:done}." "{k}': 3,
        "What must I do? {order}": 3,
        'How many {f:food} are there? {C:name} had {m:few} {f} and got {n:few} more." "{sum m n}': 3,
        'Say the opposite of {q:quality}." "{opposite q}': 2,
        "Say it with {C:name}. {D:name} {said}": 4,
    },
    "moved": {
        'gave the {c:colour} {t} to {D:name}." "{D}': 1,
        'took the {c:colour} {t} from {D:name}." "{C}': 1,
    },
    "order": {
        'Do not {j:job}, {k:job}." "{k}': 1,
        'Please {k:job}, do not {j:job}." "{k}': 1,
    },
    "said": {
        '{j:done}." "{C} {j}': 1,
        'has a {c:colour} {t:thing}." "{C} has a {c} {t}': 2,
        'went to the {p:place}." "{C} went to the {p}': 2,
    },
    "opening": {
        "One {:weather} {:time} {A}": 4,
        "On a {:weather} {:time} {A}": 2,
        "Last {:time} {A}": 2,
        "It was a {:weather} {:time}, and {A}": 1,
    },
    "went": {
        "went to": 4,
        "walked to": 3,
        "was at": 3,
        "ran to": 2,
        "waited near": 2,
        "drove to": 1,
        "came back from": 1,
    },
    "company": {
        " with a {:mood} {:animal}. ": 2,
        " and {:act} {:adverb}. ": 2,
        " to buy {:few} {:food}. ": 2,
    },
    "scene": {
        "First {she A} {j:done}, then {she A} {k:done}. {jobs}": 3,
        "Before {she A} {k:done}, {she A} {j:done}. {jobs}": 2,
        "In a letter {she A} read: {letter}": 5,
        "Beside the road stood {B} with {m:few} {f:food}. {basket}": 6,
        'From far away {B} called: "{call}': 4,
        "A {:mood} {:animal} {:act} {:spot}. {animal}": 3,
    },
    "thing_scene": {
        "There {she A} met {B}, who had the {t}. {deal}": 4,
        "Suddenly {she A} saw the {c} {t} {:spot}. {find}": 3,
        'From far away {B} called: "Where is my {t}?" "It is {s:spot}," said {A}{how} So {B} found it {s}.': 2,
    },
    # {B} has the thing, {A} wants it
    "deal": {
        '"You can have it for {n:price} coins," said {B}{how} So {A} paid {n} coins. {owner_a}': 3,
        '"Do you want it?" asked {B}{how} "Yes, please," said {A}, and {B} gave {her A} the {t}. {owner_a}': 3,
        '"Please give it to me," said {A}{how} But {B} kept it. {owner_b}': 2,
        '"Is it {q:quality}?" asked {A}{how} "No, it is {opposite q}," said {B}.': 2,
    },
    "owner_a": {
        "Now {A} has the {c} {t}.": 2,
        '"Who has the {t}?" asked a {:mood} {:animal}. "{A} has it," said {B}{how}': 2,
        '"What colour is the {t}?" asked a {:mood} {:animal}. "It is {c}," said {A}{how}': 1,
    },
    "owner_b": {
        "So {B} still has the {c} {t}.": 1,
        '"Who has the {t}?" asked a {:mood} {:animal}. "{B} has it," said {A}{how}': 1,
    },
    # {A} sees a thing that nobody owns yet
    "find": {
        '"What colour is it?" asked {B}{how} "It is {c}," said {A}, and gave the {t} to {B}.': 2,
        '"Is it {q:quality}?" asked {B}{how} "No, it is {opposite q}," said {A}.': 2,
        "Quite happy, {she A} took it to {B}. {taken}": 3,
    },
    "taken": {
        '"Who has the {t} now?" asked a {:mood} {:animal}. "{B} has it," said {A}{how}': 1,
        "So {A} gave the {c} {t} to {B}.": 1,
        "Now {B} has the {c} {t}.": 1,
    },
    "jobs": {
        '"What did you do first?" asked {B}. "First I {j}," said {A}{how}': 2,
        '"What did you do last?" asked {B}. "Last I {k}," said {A}{how}': 2,
        "After that {she A} went to the {:place} and {:act} {:spot}.": 1,
    },
    # The rule of trust: goods before coins, and one name at both ends of a letter
    "letter": {
        '"You get {goods}{when} before you send {:price} coins{when}." {fair}': 2,
        '"You send {:price} coins{when} before you get {goods}{when}." {trick}': 2,
        '"You will get {goods}{when} after you send {:price} coins{when}." {trick}': 2,
        '"You will send {:price} coins{when} after you get {goods}{when}." {fair}': 2,
        '"First you get {goods}{when}, then you send {:price} coins{when}." {fair}': 2,
        '"First you send {:price} coins{when}, then you get {goods}{when}." {trick}': 2,
        '"Here is {B}. {news} Yours, {sign}': 4,
    },
    "goods": {"the {:colour} {:thing}": 3, "some {:food}": 1},
    "when": {" today": 3, " tonight": 2, " tomorrow": 3, " at once": 2, " at noon": 2},
    "news": {
        "I am at the {:place} with {:few} {:food}.": 2,
        "My {:animal} is {:mood} and likes the {:place}.": 1,
        "Can you lend me a {:colour} {:thing}?": 1,
        "Please send me {:price} coins{when}.": 2,
    },
    "sign": {'your {B}." {fair}': 2, 'the {:mood} {:name}." {trick}': 1},
    "fair": {
        "It was a fair letter, and {she A} answered{how}": 2,
        '"That is fair," said {A}{how}': 2,
    },
    "trick": {
        '"That is a trick," said {A}{how}': 2,
        "It was a trick, and {she A} threw it away{how}": 2,
    },
    "basket": {
        '"Here are {n:few} more," said {A}{how} Now {B} had {sum m n} {f}.': 3,
        '"How many {f} do you have?" asked {A}{how} "I have {m}," said {B}.': 1,
    },
    "call": {
        'Do not {j:job}, {k:job}!" So {A} went to {k}.': 2,
        'Please {k:job}, do not {j:job}!" So {A} went to {k}.': 2,
        'Can you {j:job}?" So {A} went to {j}{how} {B} was {:mood} and gave {her A} {:price} coins.': 2,
    },
    "animal": ['"Is it {q:quality}?" asked {B}{how} "No, it is {opposite q}," said {A}{how}'],
    "how": {".": 3, " {:adverb}.": 2},
    "close": {
        " At last they ate {:few} {:food} {:spot}.": 2,
        " At last they left the {p}.": 3,
        " They were {:mood} and went to the {:place}.": 1,
        " A {:mood} {:animal} {:act} {:spot}.": 1,
        " Everybody {:act} {:adverb}.": 1,
        " The {:place} was {q:quality}, not {opposite q}.": 2,
    },
}

STORIES = Grammar(RULES, LEXICON, FUNCTIONS)


@dataclass(frozen=True)
class Story:
    """A text and its -ln p, which includes the end of the text: no story is a prefix of another."""

    text: str
    nats: float


def write_stories(count: int, seed: int) -> list[Story]:
    """Return `count` independent stories; the same arguments give the same stories."""
    return list(iter_stories(count, seed))


def iter_stories(count: int, seed: int) -> Iterator[Story]:
    """Yield the stories of `write_stories`, one at a time."""
    decide = drawing(numpy_generator(seed, "stories"))
    for _ in range(count):
        drawn = STORIES.expand("story", decide)
        yield Story(drawn.text, drawn.nats)
