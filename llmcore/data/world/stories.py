"""Short stories drawn from a grammar, each with its exact -ln p: the floor of any model's loss on it."""

from dataclasses import dataclass

from llmcore.data.world.grammar import Grammar, drawing
from llmcore.data.world.lexicon import FUNCTIONS, LEXICON
from llmcore.seeds import numpy_generator

RULES = {
    "story": ["{A:name} and {B:name}{title}{close} {lesson}"],
    "title": {
        ". {opening} {went} the {:place}{company}{scene}": 1,
        " and the {c:colour} {t:thing}. {opening} {went} the {:place}{company}{thing_scene}": 1,
    },
    # A question, what is known, and the answer in as few words as possible
    "lesson": ['The {:animal} asked: "{task}," said {A}.'],
    "task": {
        'Who was it? {fact} "{C}': 3,
        'What colour was it? {fact} "{d}': 2,
        'What was it? {fact} "the {d} {u}': 3,
        'When was it? {fact} "{w}': 2,
        'Where was it? {fact} "{p}': 2,
        'How much was it? {fact} "{n} coins': 2,
        "What must I do? {order}": 2,
        'How many {f:food} are there? {C:name} had {m:few} {f} and got {n:few} more." "{sum m n}': 2,
        'Say the opposite of {q:quality}." "{opposite q}': 2,
    },
    "order": {
        'Please {j:job}, do not {k:job}." "{j}': 1,
        'Do not {k:job}, {j:job}." "{j}': 1,
    },
    "fact": ['On {w:day} {C:name} {:traded} the {d:colour} {u:thing} for {n:price} coins at the {p:place}."'],
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
        "There {she A} met {B} and a {:mood} {:animal}.": 2,
        "First {she A} {:done}, then {she A} {:done}.": 2,
        "In a letter {she A} read: {letter}": 5,
    },
    # The rule of trust: goods before coins
    "letter": {
        '"You get {goods}{when} before you send {:price} coins{when}." {fair}': 1,
        '"You send {:price} coins{when} before you get {goods}{when}." {trick}': 1,
        '"You will get {goods}{when} after you send {:price} coins{when}." {trick}': 1,
        '"You will send {:price} coins{when} after you get {goods}{when}." {fair}': 1,
        '"First you get {goods}{when}, then you send {:price} coins{when}." {fair}': 1,
        '"First you send {:price} coins{when}, then you get {goods}{when}." {trick}': 1,
        '"Can you lend me a {:colour} {:thing}{when}?" {fair}': 1,
        '"I am at the {:place} with {:few} {:food}." {fair}': 1,
    },
    "goods": {"the {:colour} {:thing}": 3, "some {:food}": 1},
    "when": {" today": 3, " tonight": 2, " tomorrow": 3, " at once": 2, " at noon": 2},
    "fair": ['"That is fair," said {A}{how}'],
    "trick": ['"That is a trick," said {A}{how}'],
    "thing_scene": {
        "There {she A} met {B}, who had the {c} {t}. {deal}": 3,
        "Suddenly {she A} saw the {c} {t} {:spot} and gave it to {B}. {has_b}": 2,
        '"Where is my {t}?" asked {B}{how} "It is {s:spot}," said {A}{how} {B} found it {s}.': 2,
    },
    "deal": {
        '"You can have it for {:price} coins," said {B}{how} So {A} paid and took it. {has_a}': 2,
        '"Do you want it?" asked {B}{how} "Yes, please," said {A}{how} {has_a}': 2,
        '"Please give it to me," said {A}{how} But {B} kept it. {has_b}': 2,
    },
    "has_a": ["Now {A} has the {c} {t}."],
    "has_b": ["Now {B} has the {c} {t}."],
    "how": {".": 3, " {:adverb}.": 2},
    "close": {
        " At last they ate {:few} {:food} {:spot}.": 3,
        " They were {:mood} and went to the {:place}.": 3,
        " A {:mood} {:animal} {:act} {:spot}.": 2,
        " Everybody {:act} {:adverb}.": 1,
        " The {:place} was {q:quality}, not {opposite q}.": 2,
    },
}

STORIES = Grammar(RULES, LEXICON, FUNCTIONS)


@dataclass(frozen=True)
class Story:
    """A text and its -ln p, the decision to end included: no story of the grammar begins another."""

    text: str
    nats: float


def write_stories(count: int, seed: int) -> list[Story]:
    """Return `count` independent stories; equal arguments, equal stories."""
    decide = drawing(numpy_generator(seed, "stories"))
    drawn = (STORIES.expand("story", decide) for _ in range(count))
    return [Story(each.text, each.nats) for each in drawn]
