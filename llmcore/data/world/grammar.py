"""A grammar in which each text has one derivation, so that its probability is known exactly.

A grammar is a set of rules; a rule is one or more lines; a line is text with slots in braces:

    {B:name}   draw a word of the lexicon's class `name`, except words already bound, and bind it to B
    {:name}    draw a word of the class without binding it
    {B}        the word bound to B
    {she B}    a function of bound words
    {scene}    a rule, expanded here

Each choice is written as soon as it is made, and no option of a choice is a prefix of another one. (Of a rule's
lines, the text before the first slot counts, or the words of the slot that begins the line.) So a reader who goes
from left to right can infer every choice: the texts form a prefix code, and p(text) is the product of the
probabilities of its choices.
"""

import functools
import itertools
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Options:
    """The options of a choice: their texts, and -ln p of each."""

    texts: tuple[str, ...]
    nats: tuple[float, ...]

    @functools.cached_property
    def cumulative(self) -> tuple[float, ...]:
        """The cumulative probabilities, without the last one."""
        return tuple(itertools.accumulate(math.exp(-nats) for nats in self.nats[:-1]))


def weighted(weights: Mapping[str, float]) -> Options:
    """Return options with probabilities in proportion to `weights`."""
    total = sum(weights.values())
    return Options(tuple(weights), tuple(math.log(total / weight) for weight in weights.values()))


def zipf(words: Iterable[str]) -> dict[str, float]:
    """Return weights for words, the most frequent first: 1 / (rank + 10), flatter than natural text."""
    return {word: 1 / (rank + 10) for rank, word in enumerate(words)}


Decide = Callable[[Options, str], int]  # (options, the text before them) -> index of the chosen option


def drawing(rng: np.random.Generator) -> Decide:
    """Return a decision that draws an option according to the probabilities."""
    return lambda options, _text: bisect_right(options.cumulative, rng.random())


@dataclass
class Derivation:
    """The text written so far, its -ln p, the bound words, and the names of the expanded rules."""

    text: str = ""
    nats: float = 0.0
    bound: dict[str, tuple[str, str]] = field(default_factory=dict)  # variable -> (class, word)
    rules: list[str] = field(default_factory=list)

    def __getitem__(self, variable: str) -> str:
        return self.bound[variable][1]


Lines = Sequence[str] | Mapping[str, float]  # of a rule: equally likely, or with weights


class Grammar:
    """Rules, a lexicon of weighted words by class, and functions of bound words."""

    def __init__(
        self,
        rules: Mapping[str, Lines],
        lexicon: Mapping[str, Mapping[str, float]],
        functions: Mapping[str, Callable[..., str]],
    ):
        self.functions = functions
        self.lexicon = lexicon
        self.lines = {name: [parse(line) for line in lines] for name, lines in rules.items()}
        self.heads = {
            name: weighted({parse(line)[0]: weight for line, weight in _weights(lines).items()})
            for name, lines in rules.items()
        }
        for name, heads in self.heads.items():
            assert len(heads.texts) == len(self.lines[name]), f"two lines of rule {name!r} begin alike"
        self.words = functools.cache(self._words)

    def expand(self, rule: str, decide: Decide) -> Derivation:
        """Write one text from `rule`, with the choices of `decide`."""
        derivation = Derivation()
        self._rule(rule, decide, derivation)
        return derivation

    def fill(self, line: str, decide: Decide, known: Derivation | None = None) -> Derivation:
        """Write one text from `line`, which may use the words bound in `known` and adds its own there."""
        derivation = Derivation(bound=known.bound if known else {})
        head, *rest = parse(line)
        derivation.text = head
        self._rest(rest, decide, derivation)
        return derivation

    def _rule(self, rule: str, decide: Decide, out: Derivation) -> None:
        out.rules.append(rule)
        line = self.lines[rule][self._choose(self.heads[rule], decide, out)]
        self._rest(line[1:], decide, out)

    def _rest(self, slots_and_texts: Sequence[str], decide: Decide, out: Derivation) -> None:
        for slot, text in zip(slots_and_texts[::2], slots_and_texts[1::2], strict=True):
            self._slot(slot, decide, out)
            out.text += text

    def _slot(self, slot: str, decide: Decide, out: Derivation) -> None:
        variable, colon, word_class = slot.partition(":")
        function, *arguments = slot.split()
        if colon:
            taken = frozenset(word for known, word in out.bound.values() if known == word_class)
            options = self.words(word_class, taken if variable else frozenset())
            word = options.texts[self._choose(options, decide, out)]
            if variable:
                out.bound[variable] = (word_class, word)
        elif arguments:
            out.text += self.functions[function](*(out[name] for name in arguments))
        elif slot in out.bound:
            out.text += out[slot]
        else:
            self._rule(slot, decide, out)

    def _choose(self, options: Options, decide: Decide, out: Derivation) -> int:
        index = decide(options, out.text) if len(options.texts) > 1 else 0
        out.text += options.texts[index]
        out.nats += options.nats[index]
        return index

    def _words(self, word_class: str, taken: frozenset[str]) -> Options:
        return weighted({word: w for word, w in self.lexicon[word_class].items() if word not in taken})


@functools.cache
def parse(line: str) -> tuple[str, ...]:
    """Split a line into text, slot, text, ... text: `"One {d:day} "` -> `("One ", "d:day", " ")`."""
    return tuple(re.split(r"\{(.*?)\}", line))


def _weights(lines: Lines) -> Mapping[str, float]:
    return lines if isinstance(lines, Mapping) else dict.fromkeys(lines, 1.0)
